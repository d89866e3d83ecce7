"""The messages of one stream: those that follow one another are read and written in pieces.

On most streams one session steps on and on. Then a request has the bytes of the one
before it but for its index, its readings and its history, and its response likewise. So
what can be known of the next one is prepared while the last response is on its way.

Nothing is guessed: a request is the one foreseen if all its bytes but the readings are
compared, and they say how many readings there are. Any other is for `wire.parse`.
"""

from __future__ import annotations

from typing import NamedTuple

from tickcell import wire
from tickcell.wire import history

_REQUEST = wire.StreamStepsRequest.DESCRIPTOR.fields_by_name
_RESPONSE = wire.StreamStepsResponse.DESCRIPTOR.fields_by_name
_FIRST_STEP_TAG = bytes([_REQUEST["first_step"].number << 3])
# Fields of bytes, of the size of a history.
_EXPECTED_TAG = bytes([_REQUEST["expected_history"].number << 3 | 2, history.SIZE])
_HISTORY_TAG = bytes([_RESPONSE["history"].number << 3 | 2, history.SIZE])


class StepFields(NamedTuple):
    """The fields of a step request; None for those that are absent."""

    session: str
    generation: int | None
    first_step: int | None
    step_count: int
    frames: bytes
    expected_history: bytes | None
    resets: tuple[int, ...] = ()


class _Common(NamedTuple):
    """What requests that follow one another have in common, and their responses.

    Attributes:
      session, generation, step_count: their values.
      before_index: encoded, the session and its generation.
      before_frames, before_outputs: encoded, what is between the index and the vector.
      frames_size, outputs_size: the bytes of the vectors.
      expects_history: whether the requests have one.
    """

    session: str
    generation: int | None
    step_count: int
    before_index: bytes
    before_frames: bytes
    before_outputs: bytes
    frames_size: int
    outputs_size: int
    expects_history: bool


class StreamCodec:
    """Reads the requests of a stream, and writes their responses."""

    def __init__(self) -> None:
        self._last: tuple[str, int | None, int, bool] | None = None
        self._common: _Common | None = None
        # Of the request that is foreseen.
        self._first_step = 0
        self._head = self._tail = b""
        self._expected_history: bytes | None = None
        self._response_head = b""

    def read(self, encoded: bytes) -> StepFields | None:
        """Returns the request, if it is the one foreseen."""
        common = self._common
        if common is None:
            return None
        head = len(self._head)
        end = head + common.frames_size
        if not (
            len(encoded) == end + len(self._tail)
            and encoded.startswith(self._head)
            and encoded.endswith(self._tail)
        ):
            return None
        return StepFields(
            common.session,
            common.generation,
            self._first_step,
            common.step_count,
            encoded[head:end],
            self._expected_history,
        )

    def write(self, asked: StepFields, outputs: bytes, last_history: bytes) -> bytes:
        """Returns the response to a request.

        Args:
          asked: the request.
          outputs: `[T, B, O]` float32, little-endian.
          last_history: after its last step.
        """
        session, generation, first_step, step_count, _, _, _ = asked
        common = self._common
        if (
            common is not None
            and first_step == self._first_step
            and len(outputs) == common.outputs_size
            and (session, generation, step_count) == common[:3]
        ):
            return self._response_head + outputs + _HISTORY_TAG + last_history
        encoded: bytes = wire.StreamStepsResponse(
            session=session,
            generation=generation,
            first_step=first_step,
            step_count=step_count,
            outputs=outputs,
            history=last_history,
        ).SerializeToString()
        return encoded

    def foresee(self, asked: StepFields, outputs: bytes, last_history: bytes) -> None:
        """Prepares for what follows a request that was answered with this.

        It comes after `write`, and is best done while that is on its way.
        """
        session, generation, first_step, step_count, _, expected, _ = asked
        last = session, generation, step_count, expected is not None
        if last != self._last or first_step is None:
            # Not before it follows another: where sessions share a stream, it would be
            # foreseen in vain.
            self._last = last
            self._common = None
            return
        common = self._common
        if common is None or len(outputs) != common.outputs_size:
            common = self._common = _common(asked, outputs)
        self._first_step = first_step + step_count
        head = common.before_index + _FIRST_STEP_TAG + _varint(self._first_step)
        self._head = head + common.before_frames
        self._response_head = head + common.before_outputs
        if common.expects_history:
            self._expected_history = last_history
            self._tail = _EXPECTED_TAG + last_history
        else:
            self._expected_history = None
            self._tail = b""


def _common(asked: StepFields, outputs: bytes) -> _Common:
    session, generation, _, step_count, frames, expected, _ = asked
    request, response = wire.StreamStepsRequest, wire.StreamStepsResponse
    up_to_frames = request(step_count=step_count, frames=frames).SerializeToString()
    up_to_outputs = response(step_count=step_count, outputs=outputs).SerializeToString()
    return _Common(
        session=session,
        generation=generation,
        step_count=step_count,
        before_index=request(session=session, generation=generation).SerializeToString(),
        before_frames=up_to_frames[: -len(frames)],
        before_outputs=up_to_outputs[: -len(outputs)],
        frames_size=len(frames),
        outputs_size=len(outputs),
        expects_history=expected is not None,
    )


def _varint(number: int) -> bytes:
    """Returns a number of 0 or more as the wire has it: seven bits a byte, lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)

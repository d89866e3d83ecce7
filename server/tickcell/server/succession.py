"""A stream's next request, foreseen: read unparsed, begun unloaded, and answered alike."""

from __future__ import annotations

from typing import NamedTuple

from tickcell import wire
from tickcell.server import messages
from tickcell.server.step import Step

_FIRST_STEP_TAG = bytes(
    [wire.StreamStepsRequest.DESCRIPTOR.fields_by_name["first_step"].number << 3]
)


class _Common(NamedTuple):
    """What requests that follow one another have in common, and their responses.

    Attributes:
      session, generation, step_count: their values.
      before_index: encoded, the session and its generation.
      before_frames, before_outputs: encoded, what is between the index and the vector.
      frames_size: the bytes of the vector of frames.
    """

    session: str
    generation: int | None
    step_count: int
    before_index: bytes
    before_frames: bytes
    before_outputs: bytes
    frames_size: int


class Succession:
    """Reads and answers the steps of one session that follow one another on a stream.

    On most streams one session steps on and on. Then a request has the bytes of the one
    before it but for its index and its readings, and its response likewise. That a
    request is the one foreseen is proven by its bytes: all those before the readings are
    compared, and they say how many readings there are. Any other is to be parsed.

    A foreseen step comes with the guess that its session is as the step before left it.
    """

    def __init__(self) -> None:
        self._last: tuple[str, int | None, int] | None = None
        self._next_step = 0
        self._common: _Common | None = None
        self._foreseen: Step | None = None
        self._request_head = b""
        self._request_size = 0
        self._response_head = b""

    def read(self, encoded: bytes) -> Step | None:
        """Returns the request if it is the one foreseen: the same `Step` until `foresee`."""
        step = self._foreseen
        if (
            step is None
            or len(encoded) != self._request_size
            or not encoded.startswith(self._request_head)
        ):
            return None
        step.frames = encoded[len(self._request_head) :]
        return step

    def answer(self, answered: Step) -> bytes:
        """Returns the response to a request that was applied."""
        if answered is self._foreseen:
            return self._response_head + answered.outputs
        return messages.answer(wire.StreamStepsResponse, answered)

    def foresee(self, answered: Step) -> None:
        """Prepares for the request that follows one that was run.

        It comes after `answer`, and is best done while that is on its way.
        """
        self._foreseen = None
        if answered.error is None:
            self._learn(answered)
        common = self._common
        if common is None:
            return
        head = common.before_index + _FIRST_STEP_TAG + _varint(self._next_step)
        self._request_head = head + common.before_frames
        self._request_size = len(self._request_head) + common.frames_size
        self._response_head = head + common.before_outputs
        self._foreseen = Step(
            common.session, common.generation, self._next_step, common.step_count, b""
        )
        if answered.error is None and answered.stored < answered.step_count:
            self._foreseen.guess = answered

    def _learn(self, answered: Step) -> None:
        asked = answered.session, answered.generation, answered.step_count
        if asked != self._last:
            # Not before it follows another: where sessions share a stream, it would be
            # foreseen in vain.
            self._common = None
        elif self._common is None:
            self._common = _common(answered)
        self._last = asked
        self._next_step = answered.start_step + answered.step_count


def _common(step: Step) -> _Common:
    frames, outputs = step.frames, step.outputs
    request, response = wire.StreamStepsRequest, wire.StreamStepsResponse
    before_index = request(session=step.session, generation=step.generation)
    up_to_frames = request(step_count=step.step_count, frames=frames).SerializeToString()
    up_to_outputs = response(step_count=step.step_count, outputs=outputs).SerializeToString()
    return _Common(
        session=step.session,
        generation=step.generation,
        step_count=step.step_count,
        before_index=before_index.SerializeToString(),
        before_frames=up_to_frames[: -len(frames)],
        before_outputs=up_to_outputs[: -len(outputs)],
        frames_size=len(frames),
    )


def _varint(number: int) -> bytes:
    """Returns a number of 0 or more as the wire has it: seven bits a byte, lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)

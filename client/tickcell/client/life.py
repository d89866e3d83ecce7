"""One life of a session, and the messages that step it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from tickcell.client import errors
from tickcell.wire import history


class Place(NamedTuple):
    """Where a session stands.

    Attributes:
      step: the first step whose output the caller does not have.
      history: the history before it; None where that is not known.
    """

    step: int
    history: bytes | None


@dataclasses.dataclass(slots=True)
class Chunk:
    """Consecutive steps that go in one request.

    Attributes:
      frames: `[T, B, F]` float32 as bytes.
      expected_history: the history before the first step; None where that is not known.
      resets: the series that begin anew before a step, each as t x B + b, ascending.
      series_count: B, where there are resets.
    """

    first_step: int
    step_count: int
    frames: bytes
    expected_history: bytes | None
    resets: tuple[int, ...] = ()
    series_count: int = 1
    _histories: bytes | None = dataclasses.field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        place: Place,
        step_count: int,
        frames: bytes,
        resets: tuple[int, ...] = (),
        series_count: int = 1,
    ) -> Chunk:
        """Returns the next steps of a session that stands there."""
        return cls(place.step, step_count, frames, place.history, resets, series_count)

    @property
    def histories(self) -> bytes | None:
        """The history after each step; None where that before the first is not known.

        They are worked out when they are first asked for: best while the steps are on their way.
        """
        if self._histories is None and self.expected_history is not None:
            self._histories = history.chain(
                self.expected_history, self.frames, self.step_count, self.resets, self.series_count
            )
        return self._histories

    @property
    def last_history(self) -> bytes | None:
        """The history after the last step; None where it is not known."""
        histories = self.histories
        return None if histories is None else histories[-history.SIZE :]


@dataclasses.dataclass(frozen=True, slots=True)
class Life:
    """What every request of one session's life says, and the sizes that follow from it.

    Attributes:
      window: W, in steps.
      output_size: the bytes of one step's outputs, `[B, O]` float32.
      ended: the generations that this client has ended by a reset.
    """

    session: str
    generation: int
    window: int
    output_size: int
    ended: tuple[int, ...] = ()

    def explained(self, failure: errors.TickcellError) -> errors.TickcellError:
        """Returns what a failure means to a caller that was answered in this life before."""
        if isinstance(failure, errors.SessionUnknownError):
            return errors.CreateLostError(
                f"{self.session}: the store no longer knows this session: it was put back to "
                "before the session was created, unless that ended long ago. Create it "
                "again, and send the frames from step 0 on.",
                failure.metadata,
            )
        if (
            isinstance(failure, errors.SessionRestartedError)
            and int(failure.metadata.get("generation", 0)) in self.ended
        ):
            return errors.ResetLostError(
                f"{self.session}: is at step {failure.metadata['next_step']} of the life that a "
                "reset has ended: the store was put back to before that. Attach to it and "
                "reset it again, and send the frames from step 0 on.",
                failure.metadata,
            )
        return failure

    def request(self, kind: type[Any], chunk: Chunk) -> Any:
        """Returns the request, of either step method, that sends a chunk."""
        return kind(
            session=self.session,
            generation=self.generation,
            first_step=chunk.first_step,
            step_count=chunk.step_count,
            frames=chunk.frames,
            expected_history=chunk.expected_history,
            resets=chunk.resets,
        )

    def outputs(self, reply: Any, chunk: Chunk | None) -> bytes:
        """Returns the outputs in a reply, once it is seen to answer a chunk.

        Args:
          reply: of either step method.
          chunk: the oldest that has no answer; None if all have one.

        Raises:
          ReplyError: it answers something else.
        """
        if (reply.session, reply.generation) != (self.session, self.generation):
            raise errors.ReplyError(
                f"got a reply to session {reply.session!r}, generation {reply.generation}, "
                f"expected {self.session!r}, {self.generation}."
            )
        expected = None if chunk is None else (chunk.first_step, chunk.step_count)
        if (reply.first_step, reply.step_count) != expected:
            raise errors.ReplyError(
                f"{self.session}: got a reply to {reply.step_count} steps from step "
                f"{reply.first_step}, expected "
                + ("none." if expected is None else f"{expected[1]} from step {expected[0]}.")
            )
        outputs: bytes = reply.outputs
        size = reply.step_count * self.output_size
        if len(outputs) != size:
            raise errors.ReplyError(
                f"{self.session}: step {reply.first_step}: got {len(outputs) // 4} outputs, "
                f"expected {size // 4} for {reply.step_count} steps."
            )
        assert chunk is not None
        if reply.history != (chunk.last_history or reply.history):
            raise errors.ReplyError(
                f"{self.session}: step {reply.first_step}: got a reply to other frames than were "
                f"sent: history {reply.history.hex()}, expected "
                f"{(chunk.last_history or b'').hex()}."
            )
        return outputs

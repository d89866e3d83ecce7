"""Steps on their way over one stream after another: every decision, and no I/O.

What to send, what to send again, when to give up, which steps have no answer. A
driver (`pipeline` with threads) does what is decided here: it opens streams, sends
the chunks, hands in the replies and how each stream ended, and waits.

Not for several threads at once: the driver sees to that. Times are in seconds, by
the driver's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tickcell.client import errors, grpc_errors
from tickcell.client.flight import Flight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.client.backoff import Backoff
    from tickcell.client.life import Chunk, Life, Place
    from tickcell.client.recall import Recall

# A frame that is refused for what it is takes no step: those behind it can go on.
FRAME_REFUSALS = (errors.FrameError, errors.OutputNotFiniteError)


class Outputs(NamedTuple):
    """The outputs of consecutive steps, `[T, B, O]` float32, little-endian."""

    first_step: int
    data: bytes


class Delivery:
    """The steps of one session on their way: in order, each exactly once.

    Attributes:
      flight: the frames and outputs.
    """

    def __init__(
        self,
        life: Life,
        place: Place,
        frames: Sequence[bytes],
        *,
        max_chunk: int,
        max_waiting: int,
        deadline_s: float,
        backoff: Backoff,
        recall: Recall | None = None,
    ) -> None:
        """Prepares the next steps.

        Args:
          life: of the session.
          place: where the session stands.
          frames: that wait already.
          max_chunk: the most steps in one request.
          max_waiting: the most steps that are pushed and whose output the caller lacks.
          deadline_s: how long a reply may take.
          backoff: decides what follows a failure.
          recall: the session's, of the steps before; None for none.
        """
        self.flight = Flight(place, life.window, frames, recall)
        self._life = life
        self._max_chunk = max_chunk
        self._half_window = max(1, life.window // 2)
        self._max_waiting = max_waiting
        self._deadline_s = deadline_s
        self._backoff = backoff
        # Chunks are cut to single steps while one that was refused is looked for.
        self._is_split = False
        self._is_finished = False
        self._failure: Exception | None = None
        # Since when the server owes the next reply; counts only while it owes one.
        self._owed_since = 0.0

    @property
    def room(self) -> int:
        """How many frames may be pushed."""
        return self._max_waiting - self.flight.waiting

    @property
    def has_failed(self) -> bool:
        """Whether nothing more is sent until the failure is dropped, or at all."""
        return self._failure is not None

    @property
    def has_work(self) -> bool:
        """Whether there is a step to send or to hear of."""
        return self._failure is None and self.flight.answered < self.flight.end

    @property
    def is_finished(self) -> bool:
        """Whether no more frames come."""
        return self._is_finished

    @property
    def is_over(self) -> bool:
        """Whether no more frames come and the caller has all outputs."""
        return self._is_finished and not self.flight.waiting

    def push(self, *frames: bytes) -> int:
        """Takes the next steps' frames, and returns the first step's index.

        Raises:
          BacklogError: fewer may wait; none of them was taken.
        """
        if self.room < len(frames):
            raise errors.BacklogError(
                f"{self._life.session}: {self.flight.waiting} frames wait for an answer, which is "
                f"the limit; step {self.flight.end} was not taken."
            )
        return self.flight.push(frames)

    def finish(self) -> None:
        """Says that no more frames come."""
        self._is_finished = True

    def fail(self, failure: Exception) -> None:
        """Says that the steps cannot go on; the outputs before it are still to be had."""
        self._failure = failure

    def outputs(self) -> Outputs | None:
        """Returns the outputs of the first step that the caller lacks, and of those behind it.

        Of these, as many as were answered together, up to half a window; None if that of the
        first is not there.

        Raises:
          TickcellError: the step was refused, or cannot be sent any more.
        """
        self.flight.forget()
        data = self.flight.outputs()
        if data is not None:
            return Outputs(self.flight.first, data)
        if self._failure is not None:
            raise self._failure
        return None

    def drop_refused(self) -> bool:
        """Takes the frame that was refused, and raised so, out of the run.

        Returns:
          Whether the frames behind it can go on; false if it was not the frame's fault.
        """
        if (
            not isinstance(self._failure, FRAME_REFUSALS)
            or self.flight.answered < self.flight.first
        ):
            # Or it is a frame that the caller has had the output of, before a store was put back.
            return False
        self.flight.drop()
        self._failure = None
        self._is_split = False
        return True

    def opened(self) -> None:
        """Says that a new stream is open, on which nothing has been sent."""
        self.flight.rewind()

    @property
    def can_send(self) -> bool:
        """Whether there is a chunk to send, and room for it in the window.

        The caller makes room output by output. As long as outputs wait for it, that is not
        filled frame by frame, which would make a request of each.
        """
        flight = self.flight
        if self._failure is not None or not flight.can_send:
            return False
        return flight.first >= flight.answered or flight.room >= min(
            flight.unsent, self._most, self._half_window
        )

    @property
    def has_sent_all(self) -> bool:
        """Whether no more frames come and all are sent."""
        return self._is_finished and not self.flight.unsent

    def chunk(self, now: float) -> Chunk | None:
        """Returns what to send next, which counts as sent from now on; None if nothing."""
        if not self.can_send:
            return None
        if not self.flight.in_flight:
            self._owed_since = now
        return self.flight.send(self._most)

    @property
    def _most(self) -> int:
        """The most steps in the next request."""
        return 1 if self._is_split else self._max_chunk

    @property
    def overdue_at(self) -> float | None:
        """The time at which the next reply is overdue; None if none is owed."""
        return self._owed_since + self._deadline_s if self.flight.in_flight else None

    def accept(self, reply: Any, now: float) -> None:
        """Takes one reply of the stream.

        Raises:
          RefusedError: the request was refused.
          ReplyError: the reply belongs to something else.
          HistoryDiffersError: a step that was sent again has other outputs than before.
        """
        if reply.HasField("error"):
            refused = grpc_errors.from_status(reply.error)
            raise refused or errors.ReplyError(f"{self._life.session}: {reply.error.message}")
        outputs = self._life.outputs(reply, self.flight.unanswered)
        self.flight.answer(outputs, reply.history, now)
        self._owed_since = now
        self._backoff.answered()

    def overdue(self) -> errors.LostError:
        """Returns why a stream ended that was given up, since its reply was overdue."""
        return errors.LostError(f"no reply for {self._deadline_s:g} s", "DEADLINE_EXCEEDED")

    def ended(self, failure: errors.TickcellError) -> float | None:
        """Takes why a stream ended, and decides what follows.

        Returns:
          How long to wait before the next stream; None if the steps cannot go on.
        """
        if isinstance(failure, errors.StepGapError):
            return self._roll_back(failure)
        if not self.has_work and isinstance(failure, errors.LostError | errors.DrainingError):
            # Nothing is owed: a server that went away in between is no news until there
            # is a frame for it.
            return 0.0
        try:
            return self._backoff.after(self._life.explained(failure))
        except errors.TickcellError as final:
            if self._may_split(final):
                # How frames fall into chunks is chance, and must not show: the steps before
                # the one that is refused have outputs.
                self._is_split = True
                return 0.0
            self._failure = final
            return None

    def _roll_back(self, gap: errors.StepGapError) -> float | None:
        """Goes on from where a store stands that was put back, if that can be."""
        try:
            self.flight.roll_back(gap)
        except errors.StepGapError as final:
            self._failure = final
            return None
        return 0.0

    def _may_split(self, failure: errors.TickcellError) -> bool:
        is_refused = isinstance(failure, errors.RefusedError) and not failure.may_pass
        return is_refused and not self._is_split and self._max_chunk > 1

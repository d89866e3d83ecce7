"""A session in a paced loop: one frame out at each tick, and its output back in time or not.

A tick that is late gets the caller's safe action. Nothing else about it is
special: its frame is on its way already, its output is read when it comes, and
the next tick sends only the next frame. While the server does not answer, frames
wait, up to a bound; then they go out in chunks, and the tick's output is again
that of its own frame, the newest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from tickcell.client.clock import Clock
from tickcell.client.patience import BACKLOG_S

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tickcell.client.pipeline import Output
    from tickcell.client.session import Session


class Steps(Protocol):
    """What a paced loop needs of a pipeline."""

    def push(self, frame: bytes) -> int:
        """Takes the next step's frame and returns the step's index."""

    def pop(self, timeout_s: float | None = None) -> Output | None:
        """Returns the output of the first step that is not released; None if not in time."""

    def release(self) -> None:
        """Forgets that step."""

    def finish(self) -> None:
        """Says that no more frames come."""


class Pacer:
    """Matches outputs to ticks, and counts those that were late.

    Attributes:
      ticks: the ticks so far.
      late: how many of them had no output in time.
      late_outputs: how many of those outputs have come since.
    """

    def __init__(self, steps: Steps, clock: Clock) -> None:
        self._steps = steps
        self._clock = clock
        self.ticks = 0
        self.late = 0
        self.late_outputs = 0

    def tick(self, frame: bytes, until: float) -> bytes | None:
        """Sends a frame and waits for its output.

        Args:
          frame: `[B, F]` float32, little-endian.
          until: the time after which the output is late.

        Returns:
          The output, or None if it is late: then the caller takes its safe action.

        Raises:
          BacklogError: too many frames wait already; this one was not taken.
          TickcellError: a step was refused.
        """
        step = self._steps.push(frame)
        self.ticks += 1
        while (output := self._steps.pop(max(0.0, until - self._clock.now()))) is not None:
            self._steps.release()
            if output.step == step:
                return output.data
            self.late_outputs += 1
        self.late += 1
        return None

    def finish(self) -> None:
        """Waits for the outputs that are late still.

        Raises:
          TickcellError: a step was refused, or the server does not answer.
        """
        self._steps.finish()
        while self._steps.pop() is not None:
            self._steps.release()
            self.late_outputs += 1


class PacedSession:
    """A session in a paced loop.

        with PacedSession(session, rate_hz=50) as paced:
            for due in ticks:
                output = paced.tick(read_sensors())
                act(SAFE if output is None else output)

    Leaving the `with` block waits for the outputs that are late still, so that every
    frame is applied, unless an exception leaves it.
    """

    def __init__(
        self,
        session: Session,
        *,
        rate_hz: float,
        budget_s: float | None = None,
        backlog_s: float = BACKLOG_S,
        clock: Clock | None = None,
    ) -> None:
        """Begins where the session stands.

        Args:
          session: the session's steps go by this object alone until it is closed.
          rate_hz: the ticks' rate.
          budget_s: how long after the tick its output is late; by default one period.
          backlog_s: how long the server may be away, in seconds' worth of ticks.
          clock: to wait by.
        """
        self._session = session
        self._clock = clock or Clock()
        self._budget_s = 1 / rate_hz if budget_s is None else budget_s
        self._pacer = Pacer(
            session.pipeline(backlog=max(1, round(backlog_s * rate_hz))), self._clock
        )

    def __enter__(self) -> PacedSession:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._pacer.finish()
        finally:
            self._session.end_pipeline()

    @property
    def tick_count(self) -> int:
        """The ticks so far."""
        return self._pacer.ticks

    @property
    def late_count(self) -> int:
        """How many ticks had no output in time."""
        return self._pacer.late

    @property
    def late_output_count(self) -> int:
        """How many outputs came after their tick."""
        return self._pacer.late_outputs

    def tick(self, frame: ArrayLike, due: float | None = None) -> NDArray[np.float32] | None:
        """Sends the tick's frame and waits for its output.

        Args:
          frame: as for `Session.step`.
          due: when the tick was due, by the clock; now, by default.

        Returns:
          The output as from `Session.step`; None if it is late: take the safe action.

        Raises:
          BacklogError: the server has been away for too long; the frame was not taken.
          TickcellError: a step was refused.
        """
        start = self._clock.now() if due is None else due
        data = self._pacer.tick(self._session.encode(frame), start + self._budget_s)
        return None if data is None else self._session.decode(data)

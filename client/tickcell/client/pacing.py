"""A session in a paced loop: one frame out at each tick, and its output back in time or not.

A tick that is late gets the caller's safe action. Nothing else about it is
special: its frame is on its way already, its output is read when it comes, and
the next tick sends only the next frame. While the server does not answer, frames
wait, up to a bound; then they go out in chunks, and the tick's output is again
that of its own frame, the newest.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tickcell.client import arguments, errors
from tickcell.client.backoff import BACKLOG_S
from tickcell.client.clock import Clock
from tickcell.client.delivery import FRAME_REFUSALS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from tickcell.client.delivery import Outputs
    from tickcell.client.needs import StreamOperation
    from tickcell.client.session import Session


class Steps(Protocol):
    """What a paced loop needs of a pipeline."""

    def push(self, *frames: bytes) -> int:
        """Takes the next step's frame and returns the step's index."""

    def popping(self, timeout_s: float | None = None) -> StreamOperation[Outputs | None]:
        """Returns the output of the first step that is not released; None if not in time."""

    def release(self) -> None:
        """Forgets that step."""

    def drop_refused(self) -> bool:
        """Takes the frame of that step out, if it was refused for what it is."""

    def finish(self) -> None:
        """Says that no more frames come."""


class Pacer:
    """Matches outputs to ticks, and counts those that were late or refused: no I/O, see `needs`.

    Attributes:
      ticks: the ticks so far.
      late: how many of them had no output in time.
      late_outputs: how many of those outputs have come since.
      refused: how many ticks' frames were refused, and take no step.
    """

    def __init__(self, steps: Steps, clock: Clock) -> None:
        self._steps = steps
        self._clock = clock
        # The ticks whose frames are on their way, oldest first.
        self._on_the_way: deque[int] = deque()
        self.ticks = 0
        self.late = 0
        self.late_outputs = 0
        self.refused = 0

    def tick(self, encode: Callable[[], bytes], until: float) -> StreamOperation[bytes | None]:
        """Sends a frame and waits for its output.

        Whatever ends it amid its wait, a cancelled task or Ctrl-C too, its frame is on its
        way, and the tick is late.

        Args:
          encode: gives the frame, `[B, F]` float32, little-endian; it may refuse it.
          until: the time after which the output is late.

        Returns:
          The output, or None if it is late: then the caller takes its safe action.

        Raises:
          BacklogError: too many frames wait already; this one was not taken.
          FrameError: this tick's frame was refused, or that of an earlier tick which the
            error names; the loop goes on without it.
          TickcellError: a step was refused for another reason.
        """
        tick = self.ticks
        self.ticks += 1
        try:
            frame = encode()
        except errors.FrameError as error:
            self.refused += 1
            raise _of_tick(error, tick) from None
        self._steps.push(frame)
        self._on_the_way.append(tick)
        try:
            while True:
                output = yield from self._pop(max(0.0, until - self._clock.now()))
                if output is None:
                    self.late += 1
                    return None
                if self._on_the_way.popleft() == tick:
                    return output.data
                self.late_outputs += 1
        except BaseException:
            if tick in self._on_the_way:
                self.late += 1
            raise

    def finish(self) -> StreamOperation[None]:
        """Waits for the outputs that are late still.

        Raises:
          FrameError: the frame of a tick that was late was refused; all others were applied.
          TickcellError: a step was refused, or the server does not answer.
        """
        self._steps.finish()
        refusal: errors.TickcellError | None = None
        while self._on_the_way:
            try:
                output = yield from self._pop(None)
            except FRAME_REFUSALS as error:
                refusal = refusal or error
                continue
            if output is None:
                break
            self._on_the_way.popleft()
            self.late_outputs += 1
        if refusal is not None:
            raise refusal

    def _pop(self, timeout_s: float | None) -> StreamOperation[Outputs | None]:
        """Takes the next output.

        Raises:
          RefusedError: names the tick; where it was the frame's fault, the frame is gone.
        """
        try:
            output = yield from self._steps.popping(timeout_s)
        except errors.RefusedError as error:
            if not self._steps.drop_refused():
                raise
            self.refused += 1
            raise _of_tick(error, self._on_the_way.popleft()) from error
        if output is not None:
            self._steps.release()
        return output


def _of_tick(error: errors.RefusedError, tick: int) -> errors.RefusedError:
    """Returns an error that names the tick whose frame was refused."""
    return type(error)(f"tick {tick}: {error}", {**error.metadata, "tick": str(tick)})


class Pace(NamedTuple):
    """When ticks are due.

    Attributes:
      budget_s: how long after a tick its output is late.
      backlog: how many ticks' frames may wait.
    """

    budget_s: float
    backlog: int

    @classmethod
    def of(cls, *, rate_hz: float, budget_s: float | None, backlog_s: float) -> Pace:
        """Returns what the arguments of a paced session mean.

        Raises:
          UsageError: one is invalid.
        """
        rate_hz = arguments.hertz("rate_hz", rate_hz)
        if budget_s is not None:
            budget_s = arguments.seconds("budget_s", budget_s)
        backlog_s = arguments.seconds("backlog_s", backlog_s)
        backlog = max(1.0, min(backlog_s * rate_hz, arguments.MAX_COUNT))
        return cls(1 / rate_hz if budget_s is None else budget_s, round(backlog))


class PacedLoop:
    """What a paced loop counts, whichever way it is driven."""

    def __init__(self, steps: Steps, budget_s: float, clock: Clock | None) -> None:
        self._clock = clock or Clock()
        self._budget_s = budget_s
        self._pacer = Pacer(steps, self._clock)

    @property
    def tick_count(self) -> int:
        """The ticks so far."""
        return self._pacer.ticks

    @property
    def late_count(self) -> int:
        """How many ticks had no output in time."""
        return self._pacer.late

    @property
    def refused_count(self) -> int:
        """How many ticks had a frame that was refused, and that takes no step."""
        return self._pacer.refused

    @property
    def late_output_count(self) -> int:
        """How many outputs came after their tick."""
        return self._pacer.late_outputs

    def _ticking(
        self, encode: Callable[[], bytes], due: float | None
    ) -> StreamOperation[bytes | None]:
        """Sends a tick's frame and waits for its output; as `PacedSession.tick`."""
        start = self._clock.now() if due is None else due
        return self._pacer.tick(encode, start + self._budget_s)


class PacedSession(PacedLoop):
    """A session in a paced loop.

        with PacedSession(session, rate_hz=50) as paced:
            for due in ticks:
                output = paced.tick(read_sensors())
                act(SAFE if output is None else output)

    In a session of B > 1 series they tick together: `[B, F]` in, `[B, O]` out, and a frame
    that is refused for one of them is refused for all.

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

        Raises:
          UsageError: an argument is invalid, or frames of an earlier loop have no
            output and nobody has read them.
          ModelUnknownError: the sensors' ranges, which each tick is checked by, are not known.
        """
        pace = Pace.of(rate_hz=rate_hz, budget_s=budget_s, backlog_s=backlog_s)
        self._session = session
        self._pipeline = session.pipeline(backlog=pace.backlog)
        super().__init__(self._pipeline, pace.budget_s, clock)

    def __enter__(self) -> PacedSession:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._pipeline.run(self._pacer.finish())
        finally:
            self._session.end_pipeline()

    def tick(self, frame: ArrayLike, due: float | None = None) -> NDArray[np.float32] | None:
        """Sends the tick's frame and waits for its output.

        Args:
          frame: `[F]` where B = 1, else `[B, F]`; in the sensors' own units.
          due: when the tick was due, by the clock; now, by default.

        Returns:
          The output, `[O]` or `[B, O]`; None if it is late: take the safe action.

        Raises:
          BacklogError: the server has been away for too long; the frame was not taken.
          FrameError: the frame was refused; `metadata["tick"]` and the text name the tick,
            counted from 0. It takes no step, and the next tick goes on.
          TickcellError: the steps cannot go on.
        """
        data = self._pipeline.run(self._ticking(lambda: self._session.encode(frame), due))
        return None if data is None else self._session.decode(data)

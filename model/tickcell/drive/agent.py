"""The simulated car in closed loop: while the output is above the threshold, the car is eased.

The agent is the car's supervisor. At each tick it gets a frame from the car, sends
it, and has until the next tick to say whether the driver's pedals and steering are
eased. No output in time: it eases, which is the safe action.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np

from tickcell import drive
from tickcell.client.clock import Clock, paced
from tickcell.client.pacing import PacedSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tickcell.client.session import Session

# What passengers feel as harsh, m/s2.
HARSH = 3.0

# An eased driver calms down, and with them the output; without a pause the next
# tick would let go again in the middle of the manoeuvre.
HOLD_S = 1.0


@dataclasses.dataclass
class Trace:
    """What happened on one drive, tick by tick.

    Attributes:
      tick_s: the length of a tick.
      accelerations: horizontal, m/s2.
      labels: 1 while an aggressive manoeuvre is under way, else 0.
      eased: whether the tick was eased.
      outputs: of the model; NaN where there was none in time.
      latencies_s: from the tick to its output; infinite where there was none in time.
    """

    tick_s: float = 1 / drive.RATE_HZ
    accelerations: list[float] = dataclasses.field(default_factory=list)
    labels: list[int] = dataclasses.field(default_factory=list)
    eased: list[bool] = dataclasses.field(default_factory=list)
    outputs: list[float] = dataclasses.field(default_factory=list)
    latencies_s: list[float] = dataclasses.field(default_factory=list)

    def add(self, tick: drive.Tick, *, eased: bool) -> None:
        """Adds a tick of the car."""
        self.accelerations.append(tick.acceleration)
        self.labels.append(tick.label)
        self.eased.append(eased)

    @property
    def times(self) -> list[float]:
        """The time of each tick in seconds."""
        return [index * self.tick_s for index in range(len(self.labels))]

    @property
    def harsh_s(self) -> float:
        """The time above `HARSH`."""
        return sum(each > HARSH for each in self.accelerations) * self.tick_s

    @property
    def eased_in_vain_s(self) -> float:
        """The time eased while the label is 0."""
        pairs = zip(self.eased, self.labels, strict=True)
        return sum(eased and not label for eased, label in pairs) * self.tick_s

    @property
    def trip_s(self) -> float:
        """The time the drive took."""
        return len(self.labels) * self.tick_s

    @property
    def late_count(self) -> int:
        """The ticks without an output in time."""
        return int(np.isinf(self.latencies_s).sum())


def drive_unsupervised(seed: int, seconds: float, *, eased: bool) -> Trace:
    """Drives without any model, eased never or always."""
    car, trace = drive.Drive(seed, seconds), Trace()
    while True:
        tick = car.tick(eased)
        trace.add(tick, eased=eased)
        if tick.done:
            return trace


@dataclasses.dataclass
class Agent:
    """The supervisor of one drive.

    Attributes:
      session: of a model of the drive's sensors, at step 0.
      threshold: the output at and above which the car is eased.
      clock: to wait and to measure by.
      on_tick: is called after each tick.
    """

    session: Session
    threshold: float
    clock: Clock = dataclasses.field(default_factory=Clock)
    on_tick: Callable[[], object] = lambda: None

    def drive_fast(self, seed: int, seconds: float) -> Trace:
        """Drives as fast as the server answers; no tick is late."""

        def output(frame: np.ndarray, _: float) -> np.ndarray:
            return self.session.step(frame)

        ticks = (self.clock.now() for _ in itertools.count())
        return self._drive(seed, seconds, ticks, output)

    def drive_in_real_time(self, seed: int, seconds: float, rate_hz: float) -> Trace:
        """Drives by the clock; a tick without an output before the next is late."""
        numbered = ((index / rate_hz, index) for index in itertools.count())
        ticks = (due for due, _ in paced(numbered, self.clock))
        with PacedSession(self.session, rate_hz=rate_hz, clock=self.clock) as steps:
            return self._drive(seed, seconds, ticks, steps.tick)

    def _drive(
        self,
        seed: int,
        seconds: float,
        ticks: Iterator[float],
        output: Callable[[np.ndarray, float], np.ndarray | None],
    ) -> Trace:
        car, trace = drive.Drive(seed, seconds), Trace()
        eased, hold = False, 0
        for due in ticks:
            tick = car.tick(eased)
            trace.add(tick, eased=eased)
            got = output(tick.frame, due)
            trace.outputs.append(float("nan") if got is None else float(got[0]))
            trace.latencies_s.append(float("inf") if got is None else self.clock.now() - due)
            if got is None or got[0] >= self.threshold:
                hold = round(HOLD_S / trace.tick_s)
            eased, hold = hold > 0, hold - 1
            self.on_tick()
            if tick.done:
                break
        return trace

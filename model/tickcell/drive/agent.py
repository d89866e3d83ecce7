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
    from collections.abc import Callable, Iterator, Sequence

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
    """The supervisor of one drive, or of several that tick together as series of one session.

    Attributes:
      session: of a model of the drive's sensors, at step 0; a series for each drive.
      threshold: the output at and above which a car is eased.
      clock: to wait and to measure by.
      on_tick: is called after each tick.
    """

    session: Session
    threshold: float
    clock: Clock = dataclasses.field(default_factory=Clock)
    on_tick: Callable[[], object] = lambda: None

    def drive_fast(self, seeds: Sequence[int], seconds: float) -> list[Trace]:
        """Drives as fast as the server answers; no tick is late."""

        def output(frame: np.ndarray, _: float) -> np.ndarray:
            return self.session.step(frame)

        ticks = (self.clock.now() for _ in itertools.count())
        return self._drive(seeds, seconds, ticks, output)

    def drive_in_real_time(
        self, seeds: Sequence[int], seconds: float, rate_hz: float
    ) -> list[Trace]:
        """Drives by the clock; a tick without an output before the next is late, for all cars."""
        numbered = ((index / rate_hz, index) for index in itertools.count())
        ticks = (due for due, _ in paced(numbered, self.clock))
        with PacedSession(self.session, rate_hz=rate_hz, clock=self.clock) as steps:
            return self._drive(seeds, seconds, ticks, steps.tick)

    def _drive(
        self,
        seeds: Sequence[int],
        seconds: float,
        ticks: Iterator[float],
        output: Callable[[np.ndarray, float], np.ndarray | None],
    ) -> list[Trace]:
        cars = [_SupervisedCar(seed, seconds, self.threshold) for seed in seeds]
        for due in ticks:
            frames = [car.advance() for car in cars]
            got = output(frames[0] if len(cars) == 1 else np.stack(frames), due)
            if got is None:
                for car in cars:
                    car.decide(None, float("inf"))
            else:
                latency_s = self.clock.now() - due
                for car, outputs in zip(cars, got.reshape(len(cars), -1), strict=True):
                    car.decide(float(outputs[0]), latency_s)
            self.on_tick()
            if all(car.is_through for car in cars):
                break
        return [car.trace for car in cars]


class _SupervisedCar:
    """One car, eased while its output is high or missing, and for a while after.

    Attributes:
      trace: of its drive.
      is_through: whether its drive is over; then it stands, and gives its last frame.
    """

    def __init__(self, seed: int, seconds: float, threshold: float) -> None:
        self.trace = Trace()
        self.is_through = False
        self._car = drive.Drive(seed, seconds)
        self._threshold = threshold
        self._eased = False
        # For how many ticks it stays eased.
        self._hold = 0
        self._tick: drive.Tick | None = None

    def advance(self) -> np.ndarray:
        """Lets the car drive for a tick; returns its frame, `[F]`."""
        if self._tick is None or not self._tick.done:
            self._tick = self._car.tick(self._eased)
            self.trace.add(self._tick, eased=self._eased)
        return self._tick.frame

    def decide(self, output: float | None, latency_s: float) -> None:
        """Takes the tick's output, None if there was none in time, and eases the car or not."""
        if self.is_through:
            return
        self.trace.outputs.append(float("nan") if output is None else output)
        self.trace.latencies_s.append(latency_s)
        if output is None or output >= self._threshold:
            self._hold = round(HOLD_S / self.trace.tick_s)
        self._eased, self._hold = self._hold > 0, self._hold - 1
        self.is_through = self._tick is not None and self._tick.done

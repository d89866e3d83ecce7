"""A drive in closed loop: one tick in, one frame out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tickcell.drive.driver import Driver
from tickcell.drive.road import Road
from tickcell.drive.sensors import RATE_HZ, SENSORS, Phone
from tickcell.drive.surface import Surface
from tickcell.drive.vehicle import Vehicle
from tickcell.model.recording import Recording

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The column of labels: what a manoeuvre is while its label is 1.
LABEL = "aggressive"

_DT = 1 / RATE_HZ


class Tick(NamedTuple):
    """What one tick brought.

    Attributes:
      frame: the ten readings, `[10]` float32.
      label: 1 while an aggressive manoeuvre is under way, else 0.
      acceleration: the car's own horizontal acceleration, without noise and jolts, m/s2.
      speed: m/s.
      station: how far along the road the car is, m.
      done: whether the end of the road is reached.
    """

    frame: NDArray[np.float32]
    label: int
    acceleration: float
    speed: float
    station: float
    done: bool


class Drive:
    """A simulated car with its driver, road and phone; the same for the same seed.

    Road, surface and noise have streams of their own, so easing changes neither: two drives
    of one seed meet the same road, and the same noise at the same tick.
    """

    def __init__(self, seed: int, seconds: float = math.inf) -> None:
        """Plans a drive.

        Args:
          seed: of everything random, 0 or more.
          seconds: how long the drive takes where nothing is ever eased; it ends where the
            car then is. Without it the road has no end.
        """
        road, surface, phone, start = np.random.SeedSequence(seed).spawn(4)
        heading = float(np.random.default_rng(start).uniform(-math.pi, math.pi))
        self._vehicle = Vehicle(heading)
        self._driver = Driver(Road(road), self._vehicle)
        self._surface = Surface(surface)
        self._phone = Phone(phone)
        self._length = _distance(Road(road), seconds)

    def tick(self, eased: bool = False) -> Tick:
        """Advances by one tick, with the driver's pedals and steering eased or not."""
        self._driver.drive(eased, _DT)
        vehicle, station = self._vehicle, self._driver.station
        jolt = self._surface.jolt(station, vehicle.speed)
        return Tick(
            self._phone.frame(vehicle, jolt),
            int(self._driver.is_aggressive),
            math.hypot(vehicle.acceleration, vehicle.lateral_acceleration),
            vehicle.speed,
            station,
            station >= self._length,
        )


def record(seed: int, seconds: float) -> Recording:
    """Records a drive that is never eased.

    Args:
      seed: of everything random, 0 or more.
      seconds: how long it lasts.

    Returns:
      `round(seconds * RATE_HZ)` frames with their labels.
    """
    drive = Drive(seed)
    ticks = [drive.tick() for _ in range(round(seconds * RATE_HZ))]
    return Recording(
        frames=np.stack([tick.frame for tick in ticks]),
        times=np.arange(len(ticks)) / RATE_HZ,
        labels=np.array([tick.label for tick in ticks], np.float32),
        sensor_names=tuple(sensor.name for sensor in SENSORS),
        name=f"drive-{seed}",
        label_name=LABEL,
    )


def _distance(road: Road, seconds: float) -> float:
    """Returns how far an uneased driver comes on a road, m."""
    if math.isinf(seconds):
        return math.inf
    driver = Driver(road, Vehicle())
    for _ in range(round(seconds * RATE_HZ)):
        driver.drive(False, _DT)
    return driver.station

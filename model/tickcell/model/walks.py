"""Frames drawn for want of a recording: walks, since readings of a sensor follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model.interface import Sensor
from tickcell.model.ranges import Ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

# So much of a reading is left in the next.
_KEPT = 0.9
# A range is so many deviations to either side of its middle.
_DEVIATIONS = 4.0
# Limits so wide are not known.
_WIDEST = 1e30


def scale_of(sensors: Sequence[Sensor]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Returns mean and deviation of each reading, `[F]`, by the sensors' ranges.

    Returns:
      None where a sensor has no range that is known.
    """
    ranges = Ranges(sensors)
    lowest, highest = ranges.lowest.astype(np.float64), ranges.highest.astype(np.float64)
    if (highest - lowest >= _WIDEST).any():
        return None
    return (lowest + highest) / 2, (highest - lowest) / (2 * _DEVIATIONS)


def draw(
    sensors: Sequence[Sensor],
    mean: Any,
    deviation: Any,
    generator: np.random.Generator,
    step_count: int,
) -> NDArray[np.float32]:
    """Draws frames `[T, F]` of a mean and a deviation that the sensors can give.

    Args:
      sensors: of a frame.
      mean: of each reading `[F]`, or of all.
      deviation: likewise.
      generator: draws.
      step_count: T.
    """
    noise = generator.standard_normal((step_count, len(sensors)))
    walk = np.empty_like(noise)
    walk[0] = noise[0]
    for step in range(1, step_count):
        walk[step] = _KEPT * walk[step - 1] + np.sqrt(1 - _KEPT**2) * noise[step]
    frames = np.asarray(mean + deviation * walk)
    frames = np.where([sensor.whole for sensor in sensors], np.rint(frames), frames)
    return Ranges(sensors).clip(frames.astype(np.float32))

"""Changes to a window that leave its label true, so that a network learns what matters.

They know the phone's readings in the Earth frame by name: `lin_acc_*` and `acc_*` in
m/s2, `gyro_*` in rad/s, `lin_acc_horizontal`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GRAVITY = 9.81  # m/s2
_HORIZONTAL_PAIRS = (("lin_acc_x", "lin_acc_y"), ("acc_x", "acc_y"))
_VERTICAL = "acc_z"
_GYRO = ("gyro_x", "gyro_y", "gyro_z")


class AugmentationError(ValueError):
    """The sensors are not those that a change to a window needs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Augmentation:
    """How windows are changed; each is changed in its own way.

    Attributes:
      turn: turns the horizontal axes by any angle: which way is north says nothing.
      gain: how far readings are made larger or smaller: by up to this factor, e.g. 1.3.
      gyro_dropout: the share of windows whose gyroscope reads 0 throughout.
      noise: the deviation of noise on each reading, in deviations of that sensor.
    """

    turn: bool = False
    gain: float = 1.0
    gyro_dropout: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.gain < 1 or not 0 <= self.gyro_dropout <= 1 or self.noise < 0:
            raise AugmentationError(
                f"augmentation: got gain {self.gain}, gyro dropout {self.gyro_dropout} and noise "
                f"{self.noise}, expected at least 1, from 0 to 1, and at least 0."
            )

    def lacking(self, sensor_names: Sequence[str]) -> list[str]:
        """Returns the readings that the changes need and that are not there."""
        needed = {
            *(name for pair in _HORIZONTAL_PAIRS for name in pair if self.turn),
            *((_VERTICAL,) if self.gain > 1 else ()),
            *(_GYRO if self.gyro_dropout > 0 else ()),
        }
        return sorted(needed - {*sensor_names})

    def apply(
        self,
        windows: NDArray[np.float32],
        sensor_names: Sequence[str],
        deviations: NDArray[np.float32],
        generator: np.random.Generator,
    ) -> NDArray[np.float32]:
        """Returns changed windows.

        Args:
          windows: `[B, T, F]`; they are not modified.
          sensor_names: of the F readings.
          deviations: `[F]`, the standard deviation of each reading in the training data.
          generator: draws the changes.

        Raises:
          AugmentationError: a change needs a sensor that is not there.
        """
        windows = windows.copy()
        columns = {name: column for column, name in enumerate(sensor_names)}
        if self.turn:
            _turn(windows, columns, generator)
        if self.gain > 1:
            _scale(windows, columns, self.gain, generator)
        if self.gyro_dropout > 0:
            silent = generator.random(len(windows)) < self.gyro_dropout
            for name in _GYRO:
                windows[silent, :, _column(columns, name)] = 0
        if self.noise > 0:
            noise = generator.standard_normal(windows.shape, np.float32)
            windows += noise * (np.float32(self.noise) * deviations)
        return windows


def _turn(
    windows: NDArray[np.float32], columns: dict[str, int], generator: np.random.Generator
) -> None:
    angles = generator.uniform(-math.pi, math.pi, (len(windows), 1)).astype(np.float32)
    cos, sin = np.cos(angles), np.sin(angles)
    for name_x, name_y in _HORIZONTAL_PAIRS:
        column_x, column_y = _column(columns, name_x), _column(columns, name_y)
        x, y = windows[:, :, column_x].copy(), windows[:, :, column_y].copy()
        windows[:, :, column_x] = cos * x - sin * y
        windows[:, :, column_y] = sin * x + cos * y


def _scale(
    windows: NDArray[np.float32],
    columns: dict[str, int],
    gain: float,
    generator: np.random.Generator,
) -> None:
    limit = math.log(gain)
    gains = np.exp(generator.uniform(-limit, limit, (len(windows), 1, 1))).astype(np.float32)
    # What is scaled is the motion; gravity stays what it is.
    rest = np.zeros(windows.shape[2], np.float32)
    rest[_column(columns, _VERTICAL)] = _GRAVITY
    windows[:] = (windows - rest) * gains + rest


def _column(columns: dict[str, int], name: str) -> int:
    if name not in columns:
        raise AugmentationError(
            f"augmentation: needs the reading {name!r}, got only {sorted(columns)}; "
            "train without it."
        )
    return columns[name]

"""Which readings a frame may have: within their sensors' ranges, whole where they must be.

A frame of which all readings are the mask's is none of the sensors': it may have them
whatever the ranges are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tickcell.model.interface import Sensor

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ReadingError(ValueError):
    """A reading is not in its sensor's range, or must be a whole number and is none.

    Attributes:
      index: its place in the frames.
    """

    def __init__(self, message: str, index: tuple[int, ...]) -> None:
        super().__init__(message)
        self.index = index


class Ranges:
    """Tells good readings from others.

    Attributes:
      lowest: `[F]` float32, like readings, so that one clipped to its range is within.
      highest: likewise.
      whole: `[F]`, which readings must be whole numbers.
      has_whole: whether any must.
      has_mask: whether frames can be masked.
    """

    def __init__(self, sensors: Sequence[Sensor], mask_value: float | None = None) -> None:
        """Takes the ranges of a frame's sensors, in order, and what masks a frame, if any."""
        self._sensors = tuple(sensors)
        self.lowest = np.array([sensor.min_reading for sensor in sensors], np.float32)
        self.highest = np.array([sensor.max_reading for sensor in sensors], np.float32)
        self.whole = np.array([sensor.whole for sensor in sensors], np.bool_)
        self.has_whole = bool(self.whole.any())
        self.has_mask = mask_value is not None
        self._mask_value = None if mask_value is None else np.float32(mask_value)

    def are_good(self, frames: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tells of each reading of frames `[..., F]` whether it may be; a NaN never may."""
        good: NDArray[np.bool_] = (frames >= self.lowest) & (frames <= self.highest)
        if self.has_whole:
            good &= ~self.whole | (np.rint(frames) == frames)
        if self._mask_value is not None:
            good |= self.are_masked(frames)
        return good

    def are_masked(self, frames: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tells which frames `[..., F]` are masked, `[..., 1]`."""
        if self._mask_value is None:
            return np.zeros((*frames.shape[:-1], 1), np.bool_)
        masked: NDArray[np.bool_] = (frames == self._mask_value).all(axis=-1, keepdims=True)
        return masked

    def check_whole(self, frames: NDArray[np.float32]) -> None:
        """Refuses what a model would cut to a whole number, or look up and not find.

        Args:
          frames: `[..., F]`; of another width they are left to whoever takes them.

        Raises:
          ReadingError: the message names the sensor.
        """
        if frames.shape[-1:] == self.whole.shape:
            self._refuse(frames, self.whole & ~self.are_good(frames))

    def check(self, frames: NDArray[np.float32]) -> None:
        """Refuses what a server refuses.

        Args:
          frames: `[..., F]`.

        Raises:
          ReadingError: the message names the sensor.
        """
        self._refuse(frames, ~self.are_good(frames))

    def _refuse(self, frames: NDArray[np.float32], is_wrong: NDArray[np.bool_]) -> None:
        wrong = np.argwhere(is_wrong)
        if len(wrong):
            index = tuple(wrong[0].tolist())
            sensor = self._sensors[index[-1]]
            raise ReadingError(
                f"{sensor.name}: got {frames[index]:g} {sensor.unit}".rstrip()
                + f", expected {sensor.expected}.",
                index,
            )

    def clip(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns frames with each reading clipped to its range; a NaN stays one."""
        return np.clip(frames, self.lowest, self.highest)

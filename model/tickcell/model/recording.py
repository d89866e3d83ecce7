"""Frames in time order, with the time of each and, for training, its label."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recording; iterating over it gives its frames.

    Attributes:
      frames: `[T, F]` float32, in the sensors' own units.
      times: `[T]` float64, seconds, strictly increasing.
      labels: `[T]` float32, each 0 or 1; or None.
      sensor_names: the F names, in the order of the readings in a frame.
      name: what to call it, such as its file's name.
      ignored: columns of the file that no sensor asked for.
    """

    frames: NDArray[np.float32]
    times: NDArray[np.float64]
    labels: NDArray[np.float32] | None
    sensor_names: tuple[str, ...]
    name: str
    ignored: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return iter(self.frames)

    @property
    def rate_hz(self) -> float:
        """The median rate of frames; NaN where there are fewer than two."""
        if len(self.times) < 2:
            return float("nan")
        return float(1 / np.median(np.diff(self.times)))

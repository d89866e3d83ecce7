"""What to do with readings that a sensor cannot have meant: the caller's policy, and counted.

A reading drops out when it is NaN or infinite, or outside its sensor's range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from tickcell.client import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tickcell.model import Sensor

Policy = Literal["raise", "hold", "clip"]


class Dropouts:
    """Applies a policy to one frame after another.

    Attributes:
      policy: as given.
      counts: the readings that dropped out, by sensor; those of `raise` are not counted.
    """

    def __init__(self, policy: Policy, sensors: Sequence[Sensor]) -> None:
        """Begins with no good reading yet.

        Args:
          policy: `raise` an error; `hold` the sensor's last good reading; or `clip` the
            reading to the sensor's range, which cannot be done for a NaN.
          sensors: of a frame, in order.
        """
        self.policy = policy
        self._sensors = tuple(sensors)
        self._lowest = np.array([sensor.min_reading for sensor in sensors], np.float32)
        self._highest = np.array([sensor.max_reading for sensor in sensors], np.float32)
        self._last_good = np.full(len(self._sensors), np.nan, np.float32)
        self.counts: dict[str, int] = {}

    @property
    def count(self) -> int:
        """The readings that dropped out."""
        return sum(self.counts.values())

    def apply(self, frame: NDArray[np.float32], step: int) -> NDArray[np.float32]:
        """Returns the frame with good readings only.

        Args:
          frame: `[F]`; it is not modified.
          step: the frame's index, for the error's text.

        Raises:
          FrameNotFiniteError: a reading is not finite, and the policy cannot replace it.
          FrameOutOfRangeError: a reading is out of range, and the policy is `raise`.
        """
        # A NaN compares false with both ends.
        is_good = (frame >= self._lowest) & (frame <= self._highest)
        if is_good.all():
            self._last_good = frame
            return frame
        if self.policy == "hold":
            mended = np.where(is_good, frame, self._last_good)
        elif self.policy == "clip":
            mended = np.clip(frame, self._lowest, self._highest)
        else:
            mended = frame
        bad = ~((mended >= self._lowest) & (mended <= self._highest))
        if bad.any():
            raise self._error(frame, int(np.flatnonzero(bad)[0]), step)
        for index in np.flatnonzero(~is_good):
            name = self._sensors[index].name
            self.counts[name] = self.counts.get(name, 0) + 1
        self._last_good = mended
        return mended

    def _error(self, frame: NDArray[np.float32], index: int, step: int) -> errors.FrameError:
        sensor, reading = self._sensors[index], float(frame[index])
        metadata = {"step": str(step), "sensor": sensor.name, "got": str(reading)}
        way_out = {
            "raise": "replay with --on-dropout hold or clip",
            "hold": "no good reading of it came before",
            "clip": "replay with --on-dropout hold",
        }[self.policy]
        text = (
            f"step {step}: {sensor.name}: got {reading:g} {sensor.unit}, expected "
            f"{sensor.min_reading:g} to {sensor.max_reading:g}; {way_out}."
        )
        if np.isfinite(reading):
            return errors.FrameOutOfRangeError(text, metadata)
        return errors.FrameNotFiniteError(text, metadata)

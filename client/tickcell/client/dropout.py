"""Readings that dropped out: NaN, infinite, or outside their sensor's range."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from tickcell.client import errors
from tickcell.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from tickcell.model import Sensor

Policy = Literal["raise", "hold", "clip"]


class Mended(NamedTuple):
    """Consecutive frames with good readings only.

    Attributes:
      frames: each `[F]` or `[B, F]` float32; at least one.
      dropped: by series and sensor, how many readings dropped out; empty if none did.
    """

    frames: list[NDArray[np.float32]]
    dropped: dict[tuple[int, str], int]


class Dropouts:
    """Applies a policy to one frame after another.

    Attributes:
      policy: as given.
      series_counts: the readings that dropped out, by series and sensor; those of `raise`
        are not counted.
    """

    def __init__(
        self, policy: Policy, sensors: Sequence[Sensor], mask_value: float | None = None
    ) -> None:
        """Begins with no good reading yet.

        Args:
          policy: `raise` an error; `hold` the sensor's last good reading; or `clip` the
            reading to the sensor's range, which cannot be done for a NaN.
          sensors: of a frame, in order.
          mask_value: what all readings of a masked frame are, which drops out of nothing.
        """
        self.policy = check_policy(policy)
        self._sensors = tuple(sensors)
        self._ranges = Ranges(sensors, mask_value)
        self._last_good: NDArray[np.float32] = np.full(len(self._sensors), np.nan, np.float32)
        self.series_counts: dict[tuple[int, str], int] = {}

    @property
    def counts(self) -> dict[str, int]:
        """The readings that dropped out, by sensor."""
        counts: dict[str, int] = {}
        for (_, sensor), count in self.series_counts.items():
            counts[sensor] = counts.get(sensor, 0) + count
        return counts

    @property
    def count(self) -> int:
        """The readings that dropped out."""
        return sum(self.series_counts.values())

    def apply(self, frame: NDArray[np.float32], step: int) -> NDArray[np.float32]:
        """Mends a frame, and counts what dropped out.

        Args:
          frame: `[F]` or `[B, F]`; it is not modified.
          step: the frame's index, for the error's text.

        Returns:
          The frame with good readings only.

        Raises:
          FrameNotFiniteError: a reading is not finite, and the policy cannot replace it.
          FrameOutOfRangeError: a reading is out of range, and the policy is `raise`.
        """
        mended = self.mend([frame], step)
        self.note(mended)
        return mended.frames[0]

    def apply_all(self, frames: NDArray[np.float32], step: int) -> NDArray[np.float32]:
        """Mends `[n, F]` frames that follow each other, as `apply` does one by one.

        Raises:
          FrameError: as `apply`; the frames before the one that it names are noted.
        """
        if self._ranges.are_good(frames).all():
            self._last_good = self._after(frames, self._last_good).copy()
            return frames
        return np.stack([self.apply(frame, step + index) for index, frame in enumerate(frames)])

    def mend(self, frames: Iterable[NDArray[np.float32]], step: int) -> Mended:
        """Mends consecutive frames up to the first that cannot be; changes nothing here.

        They follow the frames that were noted last, so that the same frames again, which
        a call of unknown outcome asks for, are mended in the same way.

        Args:
          frames: each `[F]` or `[B, F]`; at least one.
          step: the index of the first.

        Raises:
          FrameError: as `apply`, where the first frame cannot be mended.
        """
        mended: list[NDArray[np.float32]] = []
        dropped: dict[tuple[int, str], int] = {}
        last_good = self._last_good
        for frame in frames:
            is_good = self._ranges.are_good(frame)
            good = frame if is_good.all() else self._mended(frame, is_good, last_good)
            if not self._ranges.are_good(good).all():
                if mended:
                    break
                raise self._error(frame, good, step)
            mended.append(good)
            last_good = self._after([good], last_good)
            for *series, index in np.argwhere(~is_good).tolist():
                place = series[0] if series else 0, self._sensors[index].name
                dropped[place] = dropped.get(place, 0) + 1
        return Mended(mended, dropped)

    def note(self, mended: Mended) -> None:
        """Counts what dropped out of frames that were taken, and holds their last readings."""
        for place, count in mended.dropped.items():
            self.series_counts[place] = self.series_counts.get(place, 0) + count
        # The caller may fill the same array again.
        self._last_good = self._after(mended.frames, self._last_good).copy()

    def _after(
        self,
        frames: Sequence[NDArray[np.float32]] | NDArray[np.float32],
        last_good: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Returns the last good readings after some good frames; a masked one has none."""
        if len(frames) and not self._ranges.has_mask:
            return frames[-1]
        for frame in frames:
            last_good = np.where(self._ranges.are_masked(frame), last_good, frame)
        return last_good

    def _mended(
        self,
        frame: NDArray[np.float32],
        is_good: NDArray[np.bool_],
        last_good: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        if self.policy == "hold":
            return np.where(is_good, frame, last_good)
        if self.policy == "clip":
            return self._ranges.clip(frame)
        return frame

    def _error(
        self, frame: NDArray[np.float32], mended: NDArray[np.float32], step: int
    ) -> errors.FrameError:
        at = np.argwhere(~self._ranges.are_good(mended))[0].tolist()
        sensor, reading = self._sensors[at[-1]], float(frame[tuple(at)])
        series = at[0] if len(at) > 1 else 0
        metadata = {
            "step": str(step),
            "series": str(series),
            "sensor": sensor.name,
            "reading": f"{reading:g}",
        }
        # Neither NaN nor a fraction becomes a good reading by being clipped.
        policies = "hold" if math.isnan(reading) or sensor.whole else "hold or clip"
        way_out = {
            "raise": f"on_dropout (--on-dropout) {policies} would continue",
            "hold": "no good reading of it came before",
            "clip": "on_dropout (--on-dropout) hold would continue",
        }[self.policy]
        of_series = f"series {series}, " if len(at) > 1 else ""
        text = (
            f"step {step}: {of_series}{sensor.name}: got "
            + f"{reading:g} {sensor.unit}".rstrip()
            + f", expected {sensor.expected}; {way_out}."
        )
        if np.isfinite(reading):
            return errors.FrameOutOfRangeError(text, metadata)
        return errors.FrameNotFiniteError(text, metadata)


def check_policy(policy: Policy) -> Policy:
    """Returns the policy.

    Raises:
      UsageError: it is none.
    """
    if policy not in get_args(Policy):
        raise errors.UsageError(
            f"on_dropout: got {policy!r}, expected {', '.join(get_args(Policy))}."
        )
    return policy

"""What is done with readings that drop out of recordings to learn from or to judge by."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tickcell.model.ranges import Ranges
from tickcell.model.recording.blocks import Block
from tickcell.model.recording.errors import RecordingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Policy = Literal["drop", "hold", "interpolate"]


class Mending:
    """Replaces readings that drop out, or leaves their frames out, and counts them.

    A reading drops out where it is NaN and, if ranges are known, where it is not within its
    sensor's. A masked frame has no reading that another could be given.

    Attributes:
      policy: `drop` leaves a frame out; `hold` repeats the sensor's last reading;
        `interpolate` draws a line over time between the readings around. Frames at the
        beginning of a recording that `hold` has no reading for are left out; at both its ends
        `interpolate` repeats the nearest reading.
      mended_count: the readings that were replaced.
      dropped_count: the frames that were left out.
    """

    def __init__(self, policy: Policy, ranges: Ranges | None = None) -> None:
        """Counts from 0; with ranges, what a server would refuse drops out too."""
        if policy not in get_args(Policy):
            raise RecordingError(
                f"--on-dropout: got {policy!r}, expected raise, {', '.join(get_args(Policy))}."
            )
        self.policy = policy
        self._ranges = ranges
        self.mended_count = 0
        self.dropped_count = 0

    def blocks(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Yields blocks of good readings.

        `interpolate` holds a whole recording, since a reading may be missing to its end.

        Raises:
          RecordingError: a sensor has no reading in a whole recording.
        """
        for _, parts in itertools.groupby(blocks, lambda block: block.recording):
            if self.policy == "interpolate":
                yield from self._interpolated([*parts])
            elif self.policy == "hold":
                yield from map(self._dropped, self._held(parts))
            else:
                yield from map(self._dropped, parts)

    def notes(self) -> Iterator[str]:
        """Says what was done, if there was anything to do."""
        if self.mended_count:
            yield f"readings that dropped out: {self.mended_count} ({self.policy})"
        if self.dropped_count:
            yield f"frames left out for readings that dropped out: {self.dropped_count}"

    def _are_good(self, frames: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.isfinite(frames) if self._ranges is None else self._ranges.are_good(frames)

    def _can_be_given(self, frames: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tells which readings may stand for others of their sensors."""
        is_good = self._are_good(frames)
        return is_good if self._ranges is None else is_good & ~self._ranges.are_masked(frames)

    def _dropped(self, block: Block) -> Block:
        is_good = self._are_good(block.frames).all(axis=1)
        if is_good.all():
            return block
        self.dropped_count += int((~is_good).sum())
        rows = [block.rows[place] for place in np.flatnonzero(is_good).tolist()]
        labels = None if block.labels is None else block.labels[is_good]
        return Block(block.recording, rows, block.frames[is_good], block.times[is_good], labels)

    def _held(self, blocks: Iterator[Block]) -> Iterator[Block]:
        last: NDArray[np.float32] | None = None
        for block in blocks:
            if last is None:
                last = np.full(block.frames.shape[1], np.nan, np.float32)
            # The last reading joins the block as a row before it.
            rows = np.vstack([last, block.frames])
            is_good = self._are_good(rows)
            places = np.where(self._can_be_given(rows), np.arange(len(rows))[:, np.newaxis], 0)
            held = np.take_along_axis(rows, np.maximum.accumulate(places), axis=0)
            self.mended_count += int((np.isfinite(held) & ~is_good)[1:].sum())
            last = held[-1]
            yield block._replace(frames=np.where(is_good, rows, held)[1:])

    def _interpolated(self, parts: Sequence[Block]) -> Iterator[Block]:
        frames = np.concatenate([block.frames for block in parts])
        times = np.concatenate([block.times for block in parts])
        are_good, can_be_given = self._are_good(frames), self._can_be_given(frames)
        for sensor in range(frames.shape[1]):
            is_good, is_given = are_good[:, sensor], can_be_given[:, sensor]
            if not is_given.any() and not is_good.all():
                raise RecordingError(
                    f"rows {parts[0].rows[0]} to {parts[-1].rows[-1]}: reading {sensor + 1} of a "
                    "frame drops out throughout, so there is nothing to interpolate; leave its "
                    "sensor out of --sensors."
                )
            self.mended_count += int((~is_good).sum())
            frames[~is_good, sensor] = np.interp(
                times[~is_good], times[is_given], frames[is_given, sensor]
            )
        start = 0
        for block in parts:
            yield block._replace(frames=frames[start : start + len(block.frames)])
            start += len(block.frames)

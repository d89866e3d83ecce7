"""Blocks of frames in time order: what every format is read into."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tickcell.model.recording.errors import RecordingError
from tickcell.model.recording.layout import OnGap

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Block(NamedTuple):
    """Frames that follow each other.

    Attributes:
      recording: which recording of the file they are of, from 0.
      rows: where each frame stands in the file.
      frames: `[n, F]` float32.
      times: `[n]` float64, seconds.
      labels: `[n]` float32; None where there are none.
    """

    recording: int
    rows: Sequence[int]
    frames: NDArray[np.float32]
    times: NDArray[np.float64]
    labels: NDArray[np.float32] | None

    def part(self, start: int, stop: int | None = None) -> Block:
        """Returns some of the frames."""
        kept = slice(start, stop)
        labels = None if self.labels is None else self.labels[kept]
        return Block(self.recording, self.rows[kept], self.frames[kept], self.times[kept], labels)


@dataclasses.dataclass
class Gaps:
    """Looks for times that do not go on evenly, and does with them what was asked.

    Attributes:
      source: what to call the file in messages.
      row: what a row is called in messages.
      period_s: between two frames; None where it is that of the first two.
      max_gap: how many periods may lie between two frames.
      on_gap: what is done with more.
      count: the gaps that were kept, or began a new recording.
      longest_s: the longest of them.
    """

    source: str
    row: str
    period_s: float | None
    max_gap: float
    on_gap: OnGap
    count: int = 0
    longest_s: float = 0.0

    def check(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Yields the blocks, parted where a new recording begins.

        Raises:
          RecordingError: a time does not increase, or a gap is refused; what lies before
            has been yielded.
        """
        number, last, last_recording = 0, None, None
        for block in blocks:
            if block.recording != last_recording:
                last, number = None, number + (last_recording is not None)
                last_recording = block.recording
            start = 0
            for index in self._breaks(block.times, last):
                before = last if index == 0 else float(block.times[index - 1])
                assert before is not None
                try:
                    is_new = self._judge(before, float(block.times[index]), block.rows[index])
                except RecordingError:
                    if index > start:
                        yield block.part(start, index)._replace(recording=number)
                    raise
                if is_new:
                    if index > start:
                        yield block.part(start, index)._replace(recording=number)
                    start, number = index, number + 1
            if len(block.times):
                yield block.part(start)._replace(recording=number)
                last = float(block.times[-1])

    def _breaks(self, times: NDArray[np.float64], last: float | None) -> list[int]:
        """Returns the frames whose times do not follow evenly on those before."""
        before = np.nan if last is None else last
        steps = np.diff(times, prepend=before)
        if self.period_s is None and len(known := steps[steps > 0]):
            self.period_s = float(known[0])
        most = np.inf if self.period_s is None else self.max_gap * self.period_s
        # Clocks are not exact: a thousandth of a period more is no gap.
        wrong = (steps <= 0) | (steps > most * 1.001)
        return [int(index) for index in np.flatnonzero(wrong)]

    def _judge(self, before: float, time: float, row: int) -> bool:
        """Returns whether a new recording begins here; a refused gap is an error."""
        if time == before or (time < before and self.on_gap != "split"):
            raise RecordingError(
                f"{self.source}: {self.row} {row}: got the time {time:.15g} s after "
                f"{before:.15g} s, expected times that increase; --time none ignores them, "
                "--on-gap split begins a new recording where they jump back (train, evaluate)."
            )
        gap_s = time - before
        if self.on_gap == "raise":
            assert self.period_s is not None
            raise RecordingError(
                f"{self.source}: {self.row} {row}: nothing for {gap_s:.6g} s, "
                f"{gap_s / self.period_s:.6g} periods, expected at most {self.max_gap:g} "
                "(--max-gap); --on-gap keep continues, --on-gap split begins a new recording there "
                "(train, evaluate)."
            )
        self.count += 1
        self.longest_s = max(self.longest_s, gap_s)
        return self.on_gap == "split"

    def notes(self) -> Iterator[str]:
        """Yields how many gaps there were."""
        if self.count:
            done = "began a new recording each" if self.on_gap == "split" else "were kept"
            longest = f"; the longest took {self.longest_s:.6g} s" if self.longest_s else ""
            yield f"gaps: {self.count} {done}{longest}"

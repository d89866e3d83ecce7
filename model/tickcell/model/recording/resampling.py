"""Changing the rate of frames, one by one as they arrive.

Frames are resampled to an even grid by linear interpolation, m points for each output period,
m being the least whole number for which the grid is no coarser than the input. Where m > 1,
a low-pass then keeps what the new rate cannot carry from folding into what it can: a windowed
sinc (A. V. Oppenheim and R. W. Schafer, "Discrete-Time Signal Processing", 3rd edition, 2010,
section 7.5) with a Hamming window of 8 output periods, its cut-off at 0.4 of the output rate.
What lies above 0.6 of the output rate comes out more than 45 dB lower.

The filter has no lag: an output's time is the middle of its window. So an output is known 4
output periods after its time, 80 ms at 50 Hz.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tickcell.model.recording.blocks import Block
from tickcell.model.recording.errors import RecordingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Timed = tuple[float, NDArray[np.float32]]

_REACH = 4  # output periods to either side
_CUTOFF = 0.4  # of the output rate
_SAME = 0.01  # of a ratio: clocks are not exact, and an interval is rounded
# A frame of which so many are made is not meant, unless it is said to be.
_MOST_PER_FRAME = 10
_MOST_IN_A_GAP = 100_000


class Resampler:
    """Takes frames at one rate and gives frames at another; the first keeps its time.

    A reading that is NaN makes its neighbours NaN: mend what dropped out before.
    """

    def __init__(self, from_hz: float, to_hz: float) -> None:
        """Designs the filter.

        Raises:
          ValueError: a rate is not a number above 0.
        """
        for rate in (from_hz, to_hz):
            if not 0 < rate < math.inf:
                raise ValueError(f"resampling: got the rate {rate} Hz, expected a number above 0.")
        self._points = max(1, math.ceil(from_hz / to_hz - _SAME))
        self._step_s = 1 / (to_hz * self._points)
        self._taps = _low_pass(self._points)
        self._window: collections.deque[NDArray[np.float64]] = collections.deque(
            maxlen=len(self._taps)
        )
        self._start = 0.0
        self._time = 0.0
        self._frame: NDArray[np.float64] | None = None
        self._count = 0  # points of the grid so far

    def push(self, time: float, frame: NDArray[np.float32]) -> list[Timed]:
        """Takes a frame and returns the frames that are now known, with their times.

        Args:
          time: seconds, later than that of the frame before.
          frame: `[F]`.
        """
        after = frame.astype(np.float64)
        if self._frame is None:
            self._start = time
            self._window.extend([after] * (len(self._taps) // 2))
            self._frame, self._time = after, time
        known = []
        before, since = self._frame, time - self._time
        # Half a step's thousandth: a point that falls on a frame must not miss it by rounding.
        while (point := self._start + self._count * self._step_s) <= time + 5e-4 * self._step_s:
            share = min(1.0, (point - self._time) / since) if since > 0 else 1.0
            known += self._add(before + share * (after - before))
        self._frame, self._time = after, time
        return known

    def flush(self) -> list[Timed]:
        """Returns the frames that were still to be known, as if the last one had stayed."""
        known: list[Timed] = []
        if self._frame is not None:
            last = self._window[-1]
            for _ in range(len(self._taps) // 2):
                known += self._add(last)
        return known

    def _add(self, point: NDArray[np.float64]) -> list[Timed]:
        self._window.append(point)
        middle = self._count - len(self._taps) // 2
        self._count += 1
        if middle < 0 or middle % self._points:
            return []
        frame = (self._taps @ np.array(self._window)).astype(np.float32)
        return [(self._start + middle * self._step_s, frame)]


def _low_pass(points: int) -> NDArray[np.float64]:
    """Returns the taps of the low-pass for so many points in an output period; they sum to 1."""
    if points == 1:
        return np.ones(1)
    reach = _REACH * points
    periods = np.arange(-reach, reach + 1) / points
    taps = np.sinc(2 * _CUTOFF * periods) * np.hamming(2 * reach + 1)
    return np.asarray(taps / taps.sum())


@dataclasses.dataclass(frozen=True, slots=True)
class Resampling:
    """Brings blocks from one rate to another, as `Resampler` does frame by frame.

    Each recording in them is resampled by itself. A label is that of the frame at or
    before it.

    Attributes:
      name: what to call the recording in messages.
      from_hz: the rate before.
      to_hz: the rate after.
    """

    name: str
    from_hz: float
    to_hz: float

    @classmethod
    def checked(
        cls, name: str, from_hz: float, to_hz: float, *, is_unit_known: bool = False
    ) -> Resampling:
        """Makes one, unless it would make up frames that nobody can mean.

        Raises:
          RecordingError: there is no rate to begin with, or the two are too far apart while
            the unit of the times was guessed.
        """
        if math.isnan(from_hz):
            raise RecordingError(f"{name}: got 1 frame, expected 2 or more to resample.")
        if to_hz > _MOST_PER_FRAME * from_hz and not is_unit_known:
            raise RecordingError(
                f"{name}: has a rate of {from_hz:.4g} Hz, and at {to_hz:g} Hz "
                f"{1 - from_hz / to_hz:.1%} of the frames would be interpolated; name the unit of "
                "its times with --time-unit."
            )
        return cls(name, from_hz, to_hz)

    @property
    def is_needed(self) -> bool:
        """Whether the rates differ by more than clocks do."""
        return abs(self.from_hz / self.to_hz - 1) >= _SAME

    def note(self) -> str:
        """Says what is done."""
        return f"resampled from {self.from_hz:g} Hz to {self.to_hz:g} Hz"

    def blocks(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Yields the frames at the other rate.

        Raises:
          RecordingError: a gap would be filled with more frames than can be meant.
        """
        recording, run = -1, None
        for block in blocks:
            if run is None or block.recording != recording:
                if run is not None:
                    yield from run.flush()
                recording, run = block.recording, _Run(self, block)
            yield from run.push(block)
        if run is not None:
            yield from run.flush()


class _Run:
    """One recording on its way from one rate to another."""

    def __init__(self, asked: Resampling, first: Block) -> None:
        self._asked = asked
        self._recording = first.recording
        self._resampler = Resampler(asked.from_hz, asked.to_hz)
        self._last = first.times[0]
        # The labels of frames that an output may still lie behind.
        self._labels: collections.deque[tuple[float, int, float]] = collections.deque()
        self._has_labels = first.labels is not None

    def push(self, block: Block) -> Iterator[Block]:
        """Takes frames, and yields those that are now known."""
        gap_s = float(np.diff(block.times, prepend=self._last).max())
        if gap_s * self._asked.to_hz > _MOST_IN_A_GAP:
            raise RecordingError(
                f"{self._asked.name}: nothing for {gap_s:.6g} s, which at {self._asked.to_hz:g} Hz "
                f"would be filled with {gap_s * self._asked.to_hz:.0f} frames; --on-gap split "
                "begins a new recording there (train, evaluate)."
            )
        self._last = block.times[-1]
        known: list[Timed] = []
        for index, time in enumerate(block.times.tolist()):
            label = 0.0 if block.labels is None else float(block.labels[index])
            self._labels.append((time, block.rows[index], label))
            known += self._resampler.push(time, block.frames[index])
        yield from self._block(known)

    def flush(self) -> Iterator[Block]:
        """Yields the frames that were still to be known."""
        yield from self._block(self._resampler.flush())

    def _block(self, known: list[Timed]) -> Iterator[Block]:
        if not known:
            return
        rows, labels = [], []
        for time, _ in known:
            # A microsecond: a frame on the very time must not be missed by rounding.
            while len(self._labels) > 1 and self._labels[1][0] <= time + 1e-6:
                self._labels.popleft()
            rows.append(self._labels[0][1])
            labels.append(self._labels[0][2])
        yield Block(
            self._recording,
            rows,
            np.stack([frame for _, frame in known]),
            np.array([time for time, _ in known]),
            np.array(labels, np.float32) if self._has_labels else None,
        )

"""Changing the rate of frames, one by one as they arrive.

Frames are brought to an even grid by linear interpolation, m points for each output period,
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
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Timed = tuple[float, NDArray[np.float32]]

_REACH = 4  # output periods to either side
_CUTOFF = 0.4  # of the output rate
_SAME = 0.01  # of a ratio: clocks are not exact, and an interval is rounded


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

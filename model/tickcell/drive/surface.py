"""The road's surface: potholes, joints and bumps, at stations drawn from a seed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    Jolt = tuple[float, float, float]

_SPACING_M = 55.0
_SMOOTH: Jolt = (0.0, 0.0, 0.0)


class Surface:
    """Jolts by station. A jolt is as strong for a moment as a hard manoeuvre, but short."""

    def __init__(self, seed: np.random.SeedSequence) -> None:
        self._rng = np.random.default_rng(seed)
        self._end = 0.0
        self._draw()

    def jolt(self, station: float, speed: float) -> Jolt:
        """Returns the acceleration forward, left and up by what the wheels meet, m/s2.

        Args:
          station: along the road, m; never less than at the call before.
          speed: m/s.
        """
        while station > self._end:
            self._draw()
        if station < self._start:
            return _SMOOTH
        phase = (station - self._start) / (self._end - self._start)
        # A slow wheel rolls through what throws a fast one.
        strength = math.sin(math.pi * phase) * min(1.0, speed / 10.0)
        up = math.sin(2 * math.pi * phase) * min(1.0, speed / 10.0)
        return (self._forward * strength, self._left * strength, self._up * up)

    def _draw(self) -> None:
        rng = self._rng
        self._start = self._end + float(rng.exponential(_SPACING_M))
        self._end = self._start + float(rng.uniform(1.0, 6.0))
        self._forward, self._left = (rng.standard_normal(2) * 1.9).tolist()
        self._up = float(rng.uniform(1.0, 5.0))

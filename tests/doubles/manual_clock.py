"""A clock that only a test moves."""

from __future__ import annotations

# Any time will do; a round one is easy to tell in a failure.
_START_NS = 1_700_000_000 * 10**9


class ManualClock:
    """Stands still until it is told to go on; see `Clock`."""

    def __init__(self) -> None:
        self._now_ns = _START_NS

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, seconds: float) -> None:
        self._now_ns += round(seconds * 10**9)

    def advance_ns(self, nanoseconds: int) -> None:
        self._now_ns += nanoseconds

"""The server's time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time; a test passes one that it moves itself."""

    def now_ns(self) -> int:
        """Returns nanoseconds since 1970."""


class SteadyClock:
    """Wall time at start plus monotonic time since.

    A robot's wall clock jumps when it first hears of the true time; a session must
    not expire of that.
    """

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        return self._offset + time.monotonic_ns()

"""An event loop that looks for events again and again for a while, before it sleeps.

To wake a thread that sleeps takes the system tens of microseconds, and more on a virtual
machine, whose processor halts meanwhile; and what the thread needs has left the caches. A
server that has a core to itself need not sleep while its callers are at work.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import time
from collections.abc import Callable


class BusySelector(selectors.DefaultSelector):
    """Sleeps only where nothing has happened for a while.

    While it looks, other threads of the process have their turns: each look lets go of the
    interpreter's lock.
    """

    def __init__(self, busy_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        """Begins busy.

        Args:
          busy_s: for how long after the last event it looks for the next one.
          clock: gives a time in seconds that never jumps.
        """
        super().__init__()
        self._busy_s = busy_s
        self._clock = clock
        self._busy_until = clock() + busy_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Waits for events; see `selectors.BaseSelector.select`."""
        begin = now = self._clock()
        until = self._busy_until if timeout is None else min(self._busy_until, begin + timeout)
        found = super().select(0)
        while not found and now < until:
            # Whoever waits for this core, such as a caller on a small machine, goes first.
            os.sched_yield()
            found = super().select(0)
            now = self._clock()
        if not found and (timeout is None or begin + timeout > now):
            found = super().select(None if timeout is None else begin + timeout - now)
            now = self._clock()
        if found:
            self._busy_until = now + self._busy_s
        return found


def loop(busy_poll_us: float) -> asyncio.AbstractEventLoop:
    """Returns a new event loop, which stays awake for so long after each event."""
    if not busy_poll_us:
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(BusySelector(busy_poll_us / 1e6))

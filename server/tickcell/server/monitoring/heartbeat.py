"""The event loop's heartbeat, by which others tell that it has not come to a stand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tickcell.server.monitoring import systemd

_PERIOD_S = 1.0
# Far longer than the slowest commit on a busy disk, and than any slice.
STILL_S = 5.0


class Heartbeat:
    """Beats in the event loop, and is felt from any thread."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._last_s = monotonic_s()

    @property
    def silent_s(self) -> float:
        """For how long it has not beaten, in seconds."""
        return self._monotonic_s() - self._last_s

    @property
    def is_still(self) -> bool:
        """Whether the event loop stands still."""
        return self.silent_s > STILL_S

    async def beat(self, is_well: Callable[[], bool] = lambda: True) -> None:
        """Beats until it is cancelled, and tells systemd where that watches.

        Args:
          is_well: whether to tell it; what else must go on does.
        """
        watchdog_s = systemd.watchdog_s()
        period_s = _PERIOD_S if watchdog_s is None else min(_PERIOD_S, watchdog_s / 2)
        while True:
            self._last_s = self._monotonic_s()
            if watchdog_s is not None and is_well():
                systemd.notify("WATCHDOG=1")
            await asyncio.sleep(period_s)

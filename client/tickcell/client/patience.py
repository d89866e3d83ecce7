"""How long to go on trying, and how far apart."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# gRPC's own back-off grows to two minutes, in which a robot drives two kilometres.
FIRST_DELAY_S = 0.05
LAST_DELAY_S = 2.0

# How long the server may be away while a clock goes on: a restart, a change of
# batteries, a tunnel.
BACKLOG_S = 600.0


@dataclasses.dataclass
class Patience:
    """Counts the time since a server last answered.

    Attributes:
      retry_for_s: for how long to try again after the first failure; None for ever.
      clock: gives a time in seconds that never jumps.
    """

    retry_for_s: float | None
    clock: Callable[[], float] = time.monotonic
    _since: float | None = None
    _delay_s: float = FIRST_DELAY_S

    @property
    def is_tried(self) -> bool:
        """Whether a failure was counted since the last answer."""
        return self._since is not None

    @property
    def waited_s(self) -> float:
        """The time since the first failure after the last answer."""
        return 0.0 if self._since is None else self.clock() - self._since

    def next_delay_s(self) -> float | None:
        """Counts a failure, and returns how long to wait before trying again.

        Each delay doubles the one before. None means that the time is over.
        """
        if self._since is None:
            self._since = self.clock()
        delay_s = self._delay_s
        if self.retry_for_s is not None:
            left_s = self.retry_for_s - self.waited_s
            if left_s <= 0:
                return None
            # The last try is at the very end, not a whole delay before it.
            delay_s = min(delay_s, left_s)
        self._delay_s = min(2 * self._delay_s, LAST_DELAY_S)
        return delay_s

    def answered(self) -> None:
        """Counts an answer: the next failure is a first one."""
        self._since = None
        self._delay_s = FIRST_DELAY_S

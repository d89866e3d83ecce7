"""The sweep: finds sessions that have ended, some at a time, and forgets them when it is time."""

from __future__ import annotations

import asyncio
import collections
import functools
from typing import TYPE_CHECKING

from tickcell.server import errors, lives, record
from tickcell.server.life_requests import Bury
from tickcell.server.pieces import Pieces

if TYPE_CHECKING:
    from tickcell.server.driver import Driver
    from tickcell.server.policy import Policy
    from tickcell.server.record import Record
    from tickcell.server.store import Key
    from tickcell.server.store.contract import AwaitedStore

# The most records looked at in one slice: about a millisecond.
SCAN_LIMIT = 128
# And in each sweep, unless there are too many ended ones.
_SLICES = 2
# So many where no session can be created any more: those that nobody ended have to be found
# soon. 4096 records a second, and 100,000 in half a minute.
_SLICES_WHEN_FULL = 32
_PAUSE_S = 0.01

# How exactly ends are distinguished by their time.
_GRAIN_NS = 1_000_000


class Sweep:
    """Goes through the store again and again.

    An expired session becomes a tombstone, so that it counts as ended. A tombstone is
    removed after the retention, or earlier if there are too many: then those that ended
    first, as the last time through the store has shown.
    """

    def __init__(self, store: AwaitedStore, driver: Driver, policy: Policy) -> None:
        self._store = store
        self._driver = driver
        self._policy = policy
        self._pieces = Pieces(SCAN_LIMIT)
        self.start_over()

    def start_over(self) -> None:
        """Begins at the first record, and with nothing known of the others."""
        self._after: Key | None = None
        self._forget_ns = 0
        # How many ended in which millisecond, of those seen this time through.
        self._ends: collections.Counter[int] = collections.Counter()

    async def run(self) -> int:
        """Looks at the next few records, at all of them if too many have ended.

        Returns:
          How many records were removed.

        Raises:
          TickcellError: the store has no room even for this, or cannot be reached.
        """
        removed = 0
        # What one time through shows, the next removes.
        counts, limits = await self._store.counts(), self._policy.limits
        times_left = 2 if counts.ended > limits.max_ended else 0
        is_full = counts.live >= limits.max_sessions
        slices_left = _SLICES_WHEN_FULL if is_full else _SLICES
        while slices_left > 0 or times_left > 0:
            slices_left -= 1
            forget_ns = self._forget_ns
            count = self._pieces.count
            found = await self._store.scan(None, self._after, count)
            self._pieces.note(found)
            self._after = found[-1][0] if len(found) == count else None
            due = await self._driver.in_slice(functools.partial(self._due, found))
            if self._after is None:
                self._learn()
            buried = [self._driver.enter(Bury(key, forget_ns)) for key in due]
            removed += sum([await entry is None for entry in buried])
            if self._after is None:
                times_left -= 1
                slices_left = 0
            if times_left > 0 or is_full:
                await asyncio.sleep(_PAUSE_S)
        return removed

    def _due(self, found: list[tuple[Key, bytes]]) -> list[Key]:
        """Returns which of some records are to be buried or removed."""
        now_ns = self._store.now_ns()
        due = []
        for key, encoded in found:
            try:
                current = record.decode(key, encoded)
            except (errors.RecordDamaged, errors.RecordNewer):
                # Not ours to remove: whoever asks for the session is told.
                continue
            if lives.has_ended(current, now_ns) and self._is_due(current, now_ns):
                due.append(key)
        return due

    def _is_due(self, current: Record, now_ns: int) -> bool:
        """Says whether an ended session is to become a tombstone, or a tombstone to go."""
        ended_ns = lives.end_ns(current)
        assert ended_ns is not None
        if ended_ns < self._forget_ns:
            return True
        self._ends[ended_ns // _GRAIN_NS] += 1
        is_forgotten = lives.is_forgotten(current, now_ns, self._policy.retention_ns)
        return is_forgotten or lives.is_live(current)

    def _learn(self) -> None:
        """Notes, at the end of the store, before when what has ended is one too many."""
        self._forget_ns = 0
        count = 0
        for moment, ended in sorted(self._ends.items(), reverse=True):
            count += ended
            if count > self._policy.limits.max_ended:
                self._forget_ns = (moment + 1) * _GRAIN_NS
                break
        self._ends.clear()

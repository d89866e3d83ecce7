"""A store in memory, for tests and for `--durability none`."""

from __future__ import annotations

import bisect
import collections
import itertools
import secrets
import time
from typing import TYPE_CHECKING

from tickcell.server.store.contract import (
    Applied,
    Change,
    Counts,
    Key,
    Lost,
    Pin,
    Served,
    Sizes,
    Verdict,
)
from tickcell.server.store.store_clock import Kept, Monotonic, StoreClock

if TYPE_CHECKING:
    from collections.abc import Sequence

_NONE = Counts(0, 0)


class MemoryStore:
    """Keeps records for as long as the process lives; see `EmbeddedStore` for the contract."""

    note = ""
    syncs = False

    def __init__(self, monotonic_ns: Monotonic = time.monotonic_ns) -> None:
        self.id = secrets.token_hex(16)
        self._records: dict[Key, bytes] = {}
        self._keys: list[Key] = []  # In order.
        self._ended: set[Key] = set()
        # Of those owners that have records.
        self._counts: dict[str, Counts] = {}
        self._pins: dict[Key, Pin] = {}
        # Of the live ones.
        self._pinned: collections.Counter[Pin] = collections.Counter()
        self._clock = StoreClock(Kept(0, monotonic_ns()), monotonic_ns)

    def now_ns(self) -> int:
        return self._clock.now_ns()

    def load(self, keys: Sequence[Key]) -> list[bytes | None]:
        return [self._records.get(key) for key in keys]

    def commit(self, changes: Sequence[Change]) -> list[Verdict]:
        return [self._apply(change) for change in changes]

    def make_durable(self) -> None:
        """Does nothing: no power cut is survived."""

    def scan(self, owner: str | None, after: Key | None, limit: int) -> list[tuple[Key, bytes]]:
        begin = 0 if after is None else bisect.bisect_right(self._keys, after)
        if owner is not None:
            begin = max(begin, bisect.bisect_left(self._keys, Key(owner, "")))
        keys = itertools.islice(self._keys, begin, begin + limit)
        return [(key, self._records[key]) for key in keys if owner is None or key.owner == owner]

    def counts(self, owner: str | None = None) -> Counts:
        if owner is not None:
            return self._counts.get(owner, _NONE)
        return Counts(len(self._records) - len(self._ended), len(self._ended))

    def sizes(self) -> Sizes:
        return Sizes(0, 0)

    def pinned(self) -> dict[Pin, int]:
        return {pin: count for pin, count in self._pinned.items() if count}

    def announce(self, served: Served) -> None:
        """Does nothing: no other process can serve this store."""

    def peers(self) -> list[Served]:
        return []

    def upkeep(self) -> None:
        self._clock.confirm(self._clock.next())

    def close(self) -> None:
        self._records.clear()
        self._keys.clear()
        self._ended.clear()
        self._counts.clear()
        self._pins.clear()
        self._pinned.clear()

    def _apply(self, change: Change) -> Verdict:
        found = self._records.get(change.key)
        if found == change.expected:
            self._put(change)
        elif found != change.replacement:
            return Lost(found)
        return Applied()

    def _put(self, change: Change) -> None:
        before = self._count_of(change.key)
        self._count_pin(change.key, -1)
        if change.replacement is None:
            self._pins.pop(change.key, None)
            if self._records.pop(change.key, None) is not None:
                del self._keys[bisect.bisect_left(self._keys, change.key)]
        else:
            if change.expected is None:
                bisect.insort(self._keys, change.key)
            self._records[change.key] = change.replacement
        if change.replacement is None or change.is_live:
            self._ended.discard(change.key)
        else:
            self._ended.add(change.key)
        if change.pin is not None and change.replacement is not None:
            self._pins[change.key] = change.pin
        self._count_pin(change.key, 1)
        self._count(change.key.owner, before, self._count_of(change.key))

    def _count_of(self, key: Key) -> Counts:
        """Returns what a key adds to the counts of its owner."""
        if key not in self._records:
            return _NONE
        return Counts(0, 1) if key in self._ended else Counts(1, 0)

    def _count(self, owner: str, before: Counts, after: Counts) -> None:
        if before == after:
            return
        live, ended = self._counts.pop(owner, _NONE)
        counts = Counts(live + after.live - before.live, ended + after.ended - before.ended)
        if counts != _NONE:
            self._counts[owner] = counts

    def _count_pin(self, key: Key, sign: int) -> None:
        """Counts a record for what it is pinned to, if it is live."""
        if key in self._pins and key not in self._ended:
            self._pinned[self._pins[key]] += sign

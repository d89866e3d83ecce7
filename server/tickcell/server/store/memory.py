"""A store in memory, for tests and for `--durability none`."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

from tickcell.server.store.contract import Change

if TYPE_CHECKING:
    from collections.abc import Sequence


class MemoryStore:
    """Keeps records for as long as the process lives; see `Store` for the contract."""

    def __init__(self) -> None:
        self._records: dict[bytes, bytes] = {}

    def load(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._records.get(key) for key in keys]

    def commit(self, changes: Sequence[Change]) -> list[bool]:
        applied = []
        for key, expected, replacement in changes:
            matches = self._records.get(key) == expected
            if matches and replacement is not None:
                self._records[key] = replacement
            elif matches:
                self._records.pop(key, None)
            applied.append(matches)
        return applied

    def exchange(self, key: bytes, expected: bytes | None, replacement: bytes | None) -> bool:
        (is_applied,) = self.commit([Change(key, expected, replacement)])
        return is_applied

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        keys = sorted(self._records)
        start = bisect.bisect_right(keys, after)
        return [(key, self._records[key]) for key in keys[start : start + limit]]

    def count(self) -> int:
        return len(self._records)

    def sync(self) -> None:
        """Does nothing: no power cut is survived."""

    def close(self) -> None:
        self._records.clear()

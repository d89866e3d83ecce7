"""Heads: the records that this process committed or loaded last, from which requests begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tickcell.server.record import Record
    from tickcell.server.store.contract import Key

# A hundred thousand sessions of the shipped model with its default window take about
# as much again as fits here, and most that tick tick again soon.
_MAX_BYTES = 64 * 1024 * 1024
# A record has its bytes once as a whole, once in pieces, and objects around them.
_BYTES_BESIDE = 1024


class Head(NamedTuple):
    """A session's record as it was a moment ago, encoded and decoded; None where there was none."""

    encoded: bytes | None
    record: Record | None


NOTHING = Head(None, None)


class Heads:
    """A bounded map of heads; those used least recently go first.

    It saves loads and holds no state: another server may have been there since. So a
    head never has the last word. A request that begins from one is answered only if the
    commit finds just these bytes in the store; else it begins again from a load.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._heads: dict[Key, Head] = {}
        self._free_bytes = max_bytes

    def get(self, key: Key) -> Head | None:
        """Returns a session's head, if it has one."""
        return self._heads.get(key)

    def put(self, key: Key, head: Head) -> None:
        """Remembers a record that was committed or loaded just now."""
        encoded = head[0]
        if encoded is None:
            self.forget(key)
            return
        old = self._heads.pop(key, None)
        # The last in the order of the dictionary is the one used last.
        self._heads[key] = head
        if old is not None and old[0] is not None:
            self._free_bytes += 2 * (len(old[0]) - len(encoded))
        else:
            self._free_bytes -= 2 * len(encoded) + _BYTES_BESIDE
        while self._free_bytes < 0:
            self.forget(next(iter(self._heads)))

    def forget(self, key: Key) -> None:
        """Lets the session's next request begin from a load."""
        if key in self._heads:
            encoded, _ = self._heads.pop(key)
            if encoded is not None:
                self._free_bytes += 2 * len(encoded) + _BYTES_BESIDE

    def clear(self) -> None:
        """Lets every session's next request begin from a load."""
        for key in list(self._heads):
            self.forget(key)

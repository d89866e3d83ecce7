"""Records that were committed a moment ago, and need not be decoded again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickcell.server import record

if TYPE_CHECKING:
    from tickcell.server.record import Record
    from tickcell.server.store import Key

# What many agents at once take, in about 10 MB at most.
_MAX_RECORDS = 1024
_MAX_RECORD_BYTES = 4096


class Recent:
    """Decodes records; quicker if they are those that this server loaded and committed last.

    It saves work and holds no state: a record is taken from here only if the store has
    just these bytes for it. What another server wrote, or a restored store holds, is
    other bytes, and is decoded.
    """

    def __init__(self) -> None:
        self._committed: dict[Key, tuple[bytes, Record]] = {}

    def decode(self, key: Key, encoded: bytes) -> Record:
        """Returns the record that the bytes hold, which were loaded from a key.

        Raises:
          RecordDamaged: see `record.loaded`.
        """
        committed = self._committed.get(key)
        if committed is not None and committed[0] == encoded:
            return committed[1]
        return record.loaded(key, encoded)

    def keep(self, key: Key, encoded: bytes, committed: Record) -> None:
        """Remembers a record that was committed, and its bytes."""
        if len(encoded) > _MAX_RECORD_BYTES:
            return
        if len(self._committed) >= _MAX_RECORDS and key not in self._committed:
            self._committed.clear()
        self._committed[key] = encoded, committed

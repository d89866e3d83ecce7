"""A store in one LMDB environment, shared by the servers of one machine.

The records lie in the environment's main tree, which saves a page copy in each
commit over a named one; see `schema` for the keys that are the store's own.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any, Literal

import lmdb

from tickcell.server.store import entries, premises, schema
from tickcell.server.store.errors import (
    StoreDamagedError,
    StoreError,
    StoreFullError,
    means_no_room,
)
from tickcell.server.store.opening import SERVER, Opening
from tickcell.server.store.room import used_pages
from tickcell.server.store.versions import version

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from tickcell.server.store.contract import Change
    from tickcell.server.store.opening import OnUnclean, Opened

Durability = Literal["process-crash", "power-loss"]

# Address space and the most that the file can grow to, so generous: 40 million records
# of 420 bytes. Small enough for the 39-bit address space of small ARM boards.
MAP_SIZE = 64 << 30


class LmdbStore:
    """Keeps records in an LMDB environment; see `Store` for the contract.

    One thread commits and reads; `sync` may run in another meanwhile.

    Attributes:
      note: what an operator should know about this start, or None.
    """

    def __init__(self, opened: Opened) -> None:
        self.note = opened.note
        self._opened = opened
        self._room = opened.room
        self._environment = opened.environment
        self._begin = opened.environment.begin
        self._records = opened.environment.open_db()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "process-crash",
        on_unclean: OnUnclean = "refuse",
        map_size: int = MAP_SIZE,
        allow_network_filesystem: bool = False,
        check: Callable[[bytes], Any] = version,
        boot_id: str | None = None,
    ) -> LmdbStore:
        """Opens the store in a directory, and creates it where there is none.

        Args:
          path: The store's directory.
          durability: What an acknowledged commit survives: a crash of any process, or
            a power cut too, at the price of two fsyncs in each commit.
          on_unclean: What to do where a power cut, or anything else, left damage.
          map_size: The most bytes the store can grow to; the same for all its servers.
          allow_network_filesystem: Opens it on a network file system all the same.
          check: Takes a record, raises ValueError where it is damaged, and returns what
            compares greater the later the version of the record is.
          boot_id: Which boot of the machine this is; None asks the kernel.

        Raises:
          StoreStartError: it cannot be opened; the class says why.
        """
        directory = pathlib.Path(path)
        premises.prepare(directory, allow_network_filesystem=allow_network_filesystem)
        opening = Opening(
            directory=directory,
            role=SERVER,
            durability=durability,
            on_unclean=on_unclean,
            map_size=map_size,
            check=check,
            boot_id=boot_id or entries.boot(),
        )
        return cls(opening.open())

    def load(self, keys: Sequence[bytes]) -> list[bytes | None]:
        try:
            with self._begin(self._records) as transaction:
                return list(map(transaction.get, keys))
        except lmdb.Error as error:
            raise _typed(error) from error

    def commit(self, changes: Sequence[Change]) -> list[bool]:
        applied = []
        written: set[bytes] = set()
        is_growing = False
        try:
            # Holds only the compare-and-put, never the cell: LMDB has one writer, and
            # a slow step must not stall every server on this store.
            with self._begin(self._records, None, True) as transaction:
                for key, expected, replacement in changes:
                    if transaction.get(key) != expected:
                        applied.append(False)
                        continue
                    applied.append(True)
                    if replacement is not None:
                        if key in written:
                            # Put over a large record of the same transaction, a smaller one
                            # would keep its pages, and pass for damage at the next start.
                            transaction.delete(key)
                        written.add(key)
                        transaction.put(key, replacement)
                        is_growing = is_growing or expected is None
                    elif expected is not None:
                        transaction.delete(key)
                if is_growing:
                    self._room.keep(used_pages(transaction.stat(self._records)))
        except lmdb.Error as error:
            raise _typed(error) from error
        return applied

    def exchange(self, key: bytes, expected: bytes | None, replacement: bytes | None) -> bool:
        # As `commit`, without its lists: every tick of an agent comes through here.
        try:
            with self._begin(self._records, None, True) as transaction:
                if transaction.get(key) != expected:
                    return False
                if replacement is not None:
                    transaction.put(key, replacement)
                    if expected is None:
                        self._room.keep(used_pages(transaction.stat(self._records)))
                elif expected is not None:
                    transaction.delete(key)
        except lmdb.Error as error:
            raise _typed(error) from error
        return True

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        records: list[tuple[bytes, bytes]] = []
        try:
            with self._begin(self._records) as transaction:
                cursor = transaction.cursor()
                # There is always a key to find: the schema's, behind those of all records.
                cursor.set_range(after)
                for key, value in cursor:
                    if len(records) == limit or schema.is_own_key(key):
                        break
                    if key != after:
                        records.append((key, value))
        except lmdb.Error as error:
            raise _typed(error) from error
        return records

    def count(self) -> int:
        # Of the newest commit, without a transaction.
        entry_count: int = self._environment.stat()["entries"]
        return entry_count - 1  # The schema's.

    def sync(self) -> None:
        """Makes all that was committed survive a power cut; clears readers that died.

        Raises:
          StoreError: the disk refused it.
        """
        try:
            self._environment.sync(True)
        except lmdb.Error as error:
            raise StoreError(
                f"store: the disk refused to sync ({error}); what was committed since the last "
                "sync survives a crash, but perhaps not a power cut."
            ) from error
        # A reader killed in a transaction would keep every page since from being used again.
        self._environment.reader_check()

    def close(self) -> None:
        """Syncs for the last time, then removes this server's entry.

        Raises:
          StoreError: the disk refused the sync; the entry stays, so that the next start
            after a power cut examines the store.
        """
        self.sync()
        self._opened.close()


def _typed(error: lmdb.Error) -> StoreError:
    """Says what an error of LMDB means for whoever writes; its transaction was aborted."""
    if means_no_room(error):
        return StoreFullError(
            f"store: no room to write ({error}); make room, or delete sessions, and send it again."
        )
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.PanicError):
        return StoreDamagedError(
            f"store: {error}; stop its servers and run 'tickcell store recover'."
        )
    return StoreError(f"store: {error}.")

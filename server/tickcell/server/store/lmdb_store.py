"""A store in one LMDB environment, shared by the servers of one machine.

The records lie in the environment's main tree, which saves a page copy in each
commit over a named one; the keys from 0xFF on, which no UTF-8 text starts with,
are the store's own. A write transaction holds only the compare-and-put.
"""

from __future__ import annotations

import errno
import pathlib
from typing import TYPE_CHECKING, Literal

import lmdb

from tickcell.server.store.errors import (
    NewerSchemaError,
    NotAStoreError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from tickcell.server.store.contract import Change

Durability = Literal["process-crash", "power-loss"]

# A sparse file and address space only, so generous: 40 million records of 420 bytes.
# Small enough for the 39-bit address space of small ARM boards.
MAP_SIZE = 64 << 30

SCHEMA = 1
_OWN_KEYS = b"\xff"
_SCHEMA_KEY = b"\xffschema"


class LmdbStore:
    """Keeps records in an LMDB environment; see `Store` for the contract.

    Attributes:
      note: what an operator should know about this start, or None.
    """

    def __init__(self, environment: lmdb.Environment, note: str | None = None) -> None:
        self.note = note
        self._environment = environment
        self._begin = environment.begin
        self._records = environment.open_db()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "process-crash",
        on_unclean: Literal["refuse", "recover"] = "refuse",
        map_size: int = MAP_SIZE,
        allow_network_filesystem: bool = False,
        check: str = "tickcell.server.record:decode",
        boot_id: str | None = None,
    ) -> LmdbStore:
        """Opens the store in a directory, and creates it where there is none.

        Args:
          path: The store's directory.
          durability: What an acknowledged commit survives: a crash of any process, or
            a power cut too, at the price of two fsyncs in each commit.
          on_unclean: What to do after a power cut that left damage.
          map_size: The most bytes the store can grow to; the same for all its servers.
          allow_network_filesystem: Opens it on a network file system all the same.
          check: `module:function` that takes a record and raises ValueError where it
            is damaged; a child process imports it.
          boot_id: Which boot of the machine this is; None asks the kernel.

        Raises:
          StoreStartError: it cannot be opened; the class says why.
        """
        del on_unclean, allow_network_filesystem, check, boot_id
        directory = pathlib.Path(path)
        directory.mkdir(parents=True, exist_ok=True)
        durable = durability == "power-loss"
        environment = lmdb.open(
            str(directory),
            map_size=map_size,
            sync=durable,
            metasync=durable,
            readahead=False,
            max_spare_txns=1,
        )
        store = cls(environment)
        store._check_schema(directory)
        environment.reader_check()
        return store

    def load(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._begin(self._records) as transaction:
            return list(map(transaction.get, keys))

    def commit(self, changes: Sequence[Change]) -> list[bool]:
        applied = []
        try:
            # Holds only the compare-and-put, never the cell: LMDB has one writer, and
            # a slow step must not stall every server on this store.
            with self._begin(self._records, None, True) as transaction:
                for key, expected, replacement in changes:
                    matches = transaction.get(key) == expected
                    applied.append(matches)
                    if not matches:
                        continue
                    if replacement is not None:
                        transaction.put(key, replacement)
                    elif expected is not None:
                        transaction.delete(key)
        except lmdb.Error as error:
            raise _typed(error) from error
        return applied

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        records: list[tuple[bytes, bytes]] = []
        with self._begin(self._records) as transaction:
            cursor = transaction.cursor()
            if not cursor.set_range(after + b"\x00"):
                return records
            for key, record in cursor:
                if len(records) == limit or key >= _OWN_KEYS:
                    break
                records.append((key, record))
        return records

    def count(self) -> int:
        with self._begin(self._records) as transaction:
            return transaction.stat(self._records)["entries"] - 1

    def sync(self) -> None:
        try:
            self._environment.sync(True)
        except lmdb.Error as error:
            raise _typed(error) from error

    def close(self) -> None:
        self.sync()
        self._environment.close()

    def _check_schema(self, directory: pathlib.Path) -> None:
        """Marks a new store with the schema; refuses one that is newer or not a store."""
        with self._begin(self._records, None, True) as transaction:
            stored = transaction.get(_SCHEMA_KEY)
            if stored is None and transaction.stat(self._records)["entries"]:
                raise NotAStoreError(
                    f"{directory}: holds an LMDB file that tickcell did not write."
                )
            if stored is None:
                transaction.put(_SCHEMA_KEY, b"%d" % SCHEMA)
            elif int(stored) > SCHEMA:
                raise NewerSchemaError(
                    f"{directory}: has schema {int(stored)}, this tickcell reads up to {SCHEMA}; "
                    "upgrade tickcell."
                )


def _typed(error: lmdb.Error) -> StoreError:
    """Names what an error of LMDB means for whoever writes."""
    # A short write shows as EIO; the transaction was aborted in every case.
    if isinstance(error, lmdb.MapFullError | lmdb.DiskError) or error.code == errno.EIO:
        return StoreFullError(f"store: no room to write ({error}); make room and try again.")
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.PanicError):
        return StoreDamagedError(f"store: {error}; run 'tickcell store recover'.")
    return StoreError(f"store: {error}.")

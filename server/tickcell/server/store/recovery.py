"""Recovers a damaged store: keeps every record that checks out, and reports the rest.

1. The newest commit's tree is walked. What can be reached and checks out is kept; what
   a damaged page cuts off is noted as a range of keys.
2. Every leaf page of the file is read, those of earlier commits too. It gives records
   of the lost ranges, and later versions where the tree had an old page in it. A key
   that the tree rightly does not have is not brought back to life.
3. What was kept goes into a new environment, which takes the place of the damaged
   file in one rename. The damaged file stays beside it.

A record can come back some steps behind, as from a backup. Its client sees STEP_GAP
then, never a wrong output.
"""

from __future__ import annotations

import datetime
import os
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import lmdb

from tickcell.server.store import entries, pages, premises, schema, soundness
from tickcell.server.store.errors import StoreInUseError, StoreNoSpaceError, means_no_room
from tickcell.server.store.premises import DATA, LOCK

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

_NEW = "recovering"
_NAMES_SHOWN = 8


class Recovery(NamedTuple):
    """What a recovery kept and what it could not.

    Attributes:
      record_count: the records that the store has now.
      former_count: the records that the newest commit had; None where damage hides it.
      older_count: how many of them are from pages that the newest commit's tree did
        not reach; they may be some steps behind.
      lost_keys: the keys whose record no longer checks out in any version.
      lost_ranges: why ranges of keys were cut off; what of them was found again is
        among the older ones.
      damaged_path: the damaged file, beside the store's new one.
    """

    record_count: int
    former_count: int | None
    older_count: int
    lost_keys: list[bytes]
    lost_ranges: list[str]
    damaged_path: pathlib.Path

    def __str__(self) -> str:
        """Says it in one line."""
        former = "" if self.former_count is None else f" of {self.former_count:,}"
        parts = [f"kept {self.record_count:,}{former} records"]
        if self.older_count:
            parts.append(f"{self.older_count:,} of them perhaps some steps behind")
        if self.lost_ranges:
            parts.append(f"{len(self.lost_ranges)} damaged pages")
        if self.lost_keys:
            names = [schema.name(key) for key in self.lost_keys[:_NAMES_SHOWN]]
            more = len(self.lost_keys) - len(names)
            parts.append(f"lost {', '.join(names)}{f' and {more:,} more' if more else ''}")
        return f"{'; '.join(parts)}; the damaged file is {self.damaged_path}"


def recover_stopped(
    directory: pathlib.Path, check: Callable[[bytes], Any], boot_id: str
) -> Recovery | soundness.Soundness:
    """Recovers a store if it is damaged, and sees first that nobody has it open.

    Returns:
      What was recovered, or that the store is sound and was left as it is.

    Raises:
      StoreStartError: it is in use, or it cannot be recovered.
    """
    premises.require(directory)
    with entries.guard(directory):
        found = entries.find(directory, boot_id)
        live = [entry for entry in found if entry.state == "live"]
        if live:
            raise StoreInUseError(
                f"{directory}: is in use ({live[0]}); stop every server on it and recover again."
            )
        examined = soundness.examine(directory, check)
        outcome = recover(directory, check) if examined.problems else examined
        entries.remove(found)
    return outcome


def recover(directory: pathlib.Path, check: Callable[[bytes], Any]) -> Recovery:
    """Recovers a store whose guard the caller holds and that no server has open.

    Args:
      directory: The store's directory.
      check: Takes a record, raises ValueError where it is damaged, and returns what
        compares greater the later the version of the record is.

    Raises:
      NewerSchemaError: a newer tickcell wrote it; the store is as it was.
      StoreNoSpaceError: there is no room for the new file; the store is as it was.
    """
    new = directory / _NEW
    shutil.rmtree(new, ignore_errors=True)
    data = directory / DATA
    try:
        with data.open("rb") as file:
            salvage = _Salvage(pages.Pages(file), check, new, 2 * data.stat().st_size + (1 << 20))
            salvage.run(directory)
        damaged_path = _swap(directory, new / DATA)
    except (lmdb.Error, OSError) as error:
        if means_no_room(error):
            raise StoreNoSpaceError(
                f"{directory}: the disk has no room for the recovered file; the store is as it was."
            ) from error
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return Recovery(
        salvage.record_count,
        salvage.former_count,
        len(salvage.older),
        sorted(salvage.damaged),
        [lost.why for lost in salvage.lost],
        damaged_path,
    )


class _Salvage:
    """Moves what checks out from the pages of a damaged file to a new environment."""

    def __init__(
        self, source: pages.Pages, check: Callable[[bytes], Any], new: pathlib.Path, map_size: int
    ) -> None:
        self._source = source
        self._check = check
        self._new = new
        self._map_size = map_size
        self.record_count = 0
        self.former_count = source.metas[0].entry_count - 1 if source.metas else None
        self.older: set[bytes] = set()
        self.damaged: set[bytes] = set()
        self.lost: list[pages.Lost] = []

    def run(self, directory: pathlib.Path) -> None:
        with (
            # Nobody else knows of it, and a lock file is memory: SIGBUS on a full disk.
            lmdb.open(
                str(self._new), map_size=self._map_size, mode=0o600, lock=False
            ) as environment,
            environment.begin(write=True) as transaction,
        ):
            self._walk_tree(transaction)
            self._read_every_leaf(transaction)
            stored = transaction.get(schema.SCHEMA_KEY)
            if stored is not None:
                schema.require_readable(directory, stored)
            transaction.put(schema.SCHEMA_KEY, schema.encode())
            self.record_count = transaction.stat()["entries"] - 1

    def _walk_tree(self, transaction: lmdb.Transaction[bytes]) -> None:
        for found in pages.walk(self._source):
            if isinstance(found, pages.Lost):
                self.lost.append(found)
            elif found.value is None or self._rank(found.key, found.value) is None:
                self.damaged.add(found.key)
            else:
                transaction.put(found.key, found.value)

    def _read_every_leaf(self, transaction: lmdb.Transaction[bytes]) -> None:
        for pgno in range(self._source.count):
            if not self._source.is_leaf(pgno):
                continue
            try:
                _, nodes = self._source.nodes(pgno)
            except pages.PageError:
                continue  # Nothing of a torn page can be told from chance.
            for node in nodes:
                if node.key and node.value is not None:
                    self._take_if_later(transaction, node.key, node.value)

    def _take_if_later(
        self, transaction: lmdb.Transaction[bytes], key: bytes, value: bytes
    ) -> None:
        kept = transaction.get(key)
        rank = None if kept == value else self._rank(key, value)
        if rank is None:
            return
        if kept is None:
            is_wanted = key in self.damaged or any(lost.holds(key) for lost in self.lost)
        else:
            is_wanted = rank > self._rank(key, kept)
        if is_wanted:
            transaction.put(key, value)
            self.older.add(key)
            self.damaged.discard(key)

    def _rank(self, key: bytes, value: bytes) -> Any:
        """Returns what orders the versions of a record; None if this one is damaged."""
        if key == schema.SCHEMA_KEY:
            return value if value.isdigit() else None
        if schema.is_own_key(key):
            # A leaf of LMDB's own tree of free pages, whose keys are numbers.
            return None
        try:
            return self._check(value)
        except ValueError:
            return None


def _swap(directory: pathlib.Path, recovered: pathlib.Path) -> pathlib.Path:
    """Puts the recovered file in the damaged one's place, and keeps that beside it."""
    now = datetime.datetime.now(datetime.UTC)
    damaged_path = directory / f"{DATA}.damaged-{now:%Y%m%dT%H%M%S.%fZ}"
    with recovered.open("rb") as file:
        os.fsync(file.fileno())
    # A second name first: at no moment is either file without one.
    os.link(directory / DATA, damaged_path)
    recovered.rename(directory / DATA)
    # It belongs to the damaged file; LMDB makes a new one.
    (directory / LOCK).unlink(missing_ok=True)
    entries.sync_directory(directory)
    return damaged_path

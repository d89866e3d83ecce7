"""Copies a store to one file, also beside live servers, and puts such a file back."""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import time
from typing import TYPE_CHECKING, NamedTuple

import apsw

from tickcell.server.store import checking, database, opening
from tickcell.server.store import directory as directories
from tickcell.server.store.errors import (
    NotAStoreError,
    StoreDamagedError,
    StoreError,
    damaged,
    means_no_room,
)
from tickcell.server.store.store_clock import Kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tickcell.server.store.checking import Checked
    from tickcell.server.store.contract import RecordCheck


class Restored(NamedTuple):
    """What a restore did; `aside` is where the old store lies now, None if there was none."""

    checked: Checked
    aside: pathlib.Path | None


def backup(path: pathlib.Path, destination: pathlib.Path, check: RecordCheck) -> Checked:
    """Copies a store as it is at one moment to a file, which gets its name when it is whole.

    Records that do not check out are copied as they are.

    Raises:
      StoreError: the store cannot be read, or the copy cannot be made.
    """
    if destination.exists():
        raise StoreError(f"{destination}: exists already; name a file that does not.")
    partial = destination.with_name(f".{destination.name}.partial")
    with opening.existing(path, alone=False) as opened, _write(partial):
        with _copy(opened.connection, partial) as copy:
            checked = checking.check_all(copy, check)
            copy.pragma("journal_mode", "delete")
        if checked.page_problems:
            raise damaged(path, f"is damaged, so there is no backup ({checked.page_problems[0]})")
        partial.rename(destination)
        directories.sync_directory(destination.parent)
    return checked


def restore(
    path: pathlib.Path,
    source: pathlib.Path,
    check: RecordCheck,
    *,
    allow_network_filesystem: bool = False,
) -> Restored:
    """Puts a backup in the place of a store that no process has open.

    All of the old store is moved aside, its log too: SQLite would take the old log for
    the new database's. If it is cut short, the store is refused until it is run again.

    Raises:
      StoreError: the backup or the store cannot be used; the store is unchanged.
    """
    directories.prepare(path, allow_network_filesystem=allow_network_filesystem)
    with opening.errors_of(path):
        with directories.guard(path):
            hold = directories.Hold(path, alone=True)
        try:
            with contextlib.suppress(StoreDamagedError):
                directories.find_store(path)
            new = path / directories.NEW_DATABASE
            with _write(new):
                checked, store_id = _bring(path, source, new, check)
                # From here on until the end, a start finds a marker without its database.
                directories.write_marker(path, store_id)
                aside = _move_aside(path)
                database.put_in_place(path)
        finally:
            hold.release()
    return Restored(checked, aside)


def _bring(
    path: pathlib.Path, source: pathlib.Path, new: pathlib.Path, check: RecordCheck
) -> tuple[Checked, str]:
    """Copies a backup beside the store, as a store of its own; returns its id too."""
    if not source.is_file():
        raise NotAStoreError(f"{source}: is not a file that 'tickcell store backup' made.")
    try:
        backed_up = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
        with contextlib.closing(backed_up), _copy(backed_up, new) as copy:
            database.require_schema(source, copy)
            checked = checking.check_all(copy, check)
            if checked.page_problems:
                raise StoreDamagedError(
                    f"{source}: is damaged ({checked.page_problems[0]}); name another backup. "
                    f"{path} is unchanged."
                )
            identity = database.read_identity(source, copy)
            identity = identity._replace(
                id=database.new_id(), clock=Kept(identity.clock.now_ns, time.monotonic_ns())
            )
            database.write_identity(copy, identity)
            copy.pragma("journal_mode", "wal")
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise StoreDamagedError(
            f"{source}: is not a backup, or a damaged one ({error}); name another. {path} is as it "
            "was."
        ) from error
    return checked, identity.id


@contextlib.contextmanager
def _copy(source: apsw.Connection, target: pathlib.Path) -> Iterator[apsw.Connection]:
    """Copies a database in one step, so at one moment, and gives the copy."""
    copy = apsw.Connection(str(target))
    try:
        with copy.backup("main", source, "main") as copying:
            copying.step(-1)
        yield copy
    finally:
        copy.close()


@contextlib.contextmanager
def _write(partial: pathlib.Path) -> Iterator[None]:
    """Removes the file in the end, if it has not got another name; gives its errors names."""
    try:
        # What one that was killed left.
        _remove(partial)
        yield
    except (OSError, apsw.Error) as error:
        if means_no_room(error):
            raise StoreError(f"{partial.parent}: the disk has no room for the copy.") from error
        if isinstance(error, OSError):
            raise StoreError(f"{partial}: cannot be written ({error.strerror}).") from error
        raise
    finally:
        _remove(partial)


def _remove(partial: pathlib.Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        with contextlib.suppress(NotADirectoryError):
            partial.with_name(partial.name + suffix).unlink(missing_ok=True)


def _move_aside(path: pathlib.Path) -> pathlib.Path | None:
    """Moves the old database away, and what belongs to it; returns where it is."""
    # The database first: without its log it would pass for an older store.
    names = [
        name
        for name in (directories.DATABASE, directories.LOG, directories.INDEX)
        if (path / name).exists()
    ]
    if not names:
        return None
    now = datetime.datetime.now(datetime.UTC)
    aside = path / f"replaced-{now:%Y%m%dT%H%M%S.%fZ}"
    aside.mkdir(mode=0o700)
    for name in names:
        os.rename(path / name, aside / name)
        directories.sync_directory(aside)
        directories.sync_directory(path)
    return aside

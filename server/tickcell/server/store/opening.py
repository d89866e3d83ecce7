"""Opens a store's directory: what is there, whose it is, and whether it is whole."""

from __future__ import annotations

import contextlib
import pathlib
from typing import TYPE_CHECKING, NamedTuple

import apsw

from tickcell.server.store import database
from tickcell.server.store import directory as directories
from tickcell.server.store import durability as durabilities
from tickcell.server.store.errors import StoreNoSpaceError, damaged, means_no_room, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tickcell.server.store.database import Identity
    from tickcell.server.store.directory import Hold
    from tickcell.server.store.durability import Durability


class Opened(NamedTuple):
    """A directory that this process holds, and the first connection to its database."""

    directory: pathlib.Path
    hold: Hold
    connection: apsw.Connection
    identity: Identity

    def close(self) -> None:
        """Gives both back."""
        self.connection.close()
        self.hold.release()


def open_to_serve(
    path: pathlib.Path,
    durability: Durability | None,
    vfs: str | None,
    *,
    allow_network_filesystem: bool,
) -> Opened:
    """Opens a store, and creates it where there is none.

    Raises:
      StoreStartError: it cannot be opened; the class says why.
      StoreDamagedError: it is not whole.
    """
    directories.prepare(path, allow_network_filesystem=allow_network_filesystem)
    with errors_of(path), directories.guard(path):
        marked = directories.find_store(path)
        if marked is None:
            database.create(path, durability or durabilities.DEFAULT, vfs)
        opened = _open(path, vfs, marked or "", alone=False)
        try:
            durabilities.require(path, opened.identity.durability, durability)
            database.require_counted(path, opened.connection)
            # A database that a restored one, or somebody, left in the old mode.
            opened.connection.pragma("journal_mode", "wal")
        except BaseException:
            opened.close()
            raise
        return opened


@contextlib.contextmanager
def existing(path: pathlib.Path, *, alone: bool) -> Iterator[Opened]:
    """Opens a store that is there; who only looks leaves its log as it is at the end.

    Args:
      path: the store's directory.
      alone: keeps all others out meanwhile.

    Raises:
      StoreStartError: it cannot be opened; the class says why.
      StoreDamagedError: it is not whole.
    """
    with errors_of(path):
        with directories.guard(path) if path.is_dir() else contextlib.nullcontext():
            has_log = (path / directories.LOG).exists()
            opened = _open(path, None, directories.require_store(path), alone=alone)
        try:
            if has_log and not alone:
                opened.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            yield opened
        finally:
            opened.close()


def _open(path: pathlib.Path, vfs: str | None, marked: str, *, alone: bool) -> Opened:
    """Opens a database that is there; the guard is held."""
    directory = path.resolve()
    with contextlib.ExitStack() as undo:
        hold = directories.Hold(directory, alone=alone)
        undo.callback(hold.release)
        connection = database.connect(directory, vfs)
        undo.callback(connection.close)
        database.require_schema(directory, connection)
        identity = database.read_identity(directory, connection)
        if marked not in ("", identity.id):
            raise damaged(directory, f"its database does not match its {directories.MARKER}")
        if not marked:
            directories.write_marker(directory, identity.id)
        undo.pop_all()
    return Opened(directory, hold, connection, identity)


@contextlib.contextmanager
def errors_of(path: pathlib.Path) -> Iterator[None]:
    """Raises what SQLite and the system raise while a store is opened as its errors."""
    try:
        yield
    except (OSError, apsw.Error) as error:
        if means_no_room(error):
            raise StoreNoSpaceError(
                f"{path}: the disk is full; make room on it and try again."
            ) from error
        if isinstance(error, OSError):
            raise
        raise typed(path, error) from error

"""A store's directory: what may lie in it, whose it is, and the locks on it.

    store.db, -wal, -shm     SQLite's files
    tickcell-store           the marker: the store's id, written when the database is whole
    lock                     held shared by those who have the store open, alone to replace it
    reserve                  see `reserve`

The locks are flock(2)'s: they end with their process, however it ends, and are seen
across PID namespaces. The directory itself is locked for the moment of an opening.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
from typing import TYPE_CHECKING

from tickcell.server.store import filesystems, lock_table
from tickcell.server.store.errors import (
    NotAStoreError,
    StoreInUseError,
    StoreNoSpaceError,
    StorePermissionError,
    damaged,
    means_no_room,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = "store.db"
LOG = "store.db-wal"
INDEX = "store.db-shm"
MARKER = "tickcell-store"
RESERVE = "reserve"
# Moved to DATABASE when it is whole, so a start that is cut short leaves no half of one.
NEW_DATABASE = "new.db"
_LOCK = "lock"

# What a start that was cut short can have left, and what a new volume holds.
_HARMLESS = {
    _LOCK, NEW_DATABASE, f"{NEW_DATABASE}-journal", f"{NEW_DATABASE}-wal", f"{NEW_DATABASE}-shm",
    f"{MARKER}.partial", "lost+found",
}  # fmt: skip


class Hold:
    """The lock of a process that has the store open, or that keeps all others out."""

    def __init__(self, directory: pathlib.Path, *, alone: bool = False) -> None:
        """Takes the lock; `guard` is held.

        Args:
          directory: the store's.
          alone: keeps all others out, to replace the store.

        Raises:
          StoreInUseError: another process has the store open, and one of the two wants
            it alone.
        """
        self._descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _lock(self._descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
            self.release()
            raise StoreInUseError(
                f"{directory}: is in use ({', '.join(users(directory))}); try again when it is not."
            )

    def release(self) -> None:
        """Gives the lock back."""
        os.close(self._descriptor)


def users(directory: pathlib.Path) -> list[str]:
    """Returns who has the store open, for people; empty if nobody has. `guard` is held."""
    path = directory / _LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        pids = {held.pid for held in lock_table.locks_on(path)}
        if pids:
            return [lock_table.name_of(pid) for pid in sorted(pids)]
        is_held = not _lock(descriptor, fcntl.LOCK_EX)
        return ["a process of another PID namespace"] if is_held else []
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def guard(directory: pathlib.Path) -> Iterator[None]:
    """Locks the directory for the moment in which a process opens or leaves the store."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def prepare(directory: pathlib.Path, *, allow_network_filesystem: bool) -> None:
    """Creates the directory where it is missing, and sees that a store may lie in it.

    Raises:
      StoreStartError: it may not; the class says why.
    """
    if not allow_network_filesystem:
        mounts = pathlib.Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        filesystems.refuse_network_filesystem(directory, mounts)
    try:
        # Only this user's: the records hold what a person's sensors saw.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except PermissionError as error:
        raise StorePermissionError(
            f"{directory}: cannot be created ({error.strerror}); name another directory with "
            "--store."
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise NotAStoreError(f"{directory}: is not a directory.") from error
    except OSError as error:
        if means_no_room(error):
            raise StoreNoSpaceError(f"{directory}: cannot be created: the disk is full.") from error
        raise
    _require_permission(directory)


def find_store(directory: pathlib.Path) -> str | None:
    """Returns the id in the marker of a store that is there; "" if only the marker is missing.

    Returns None where there is no store, and could be one.

    Raises:
      NotAStoreError: something else lies there, or there is no directory.
      StorePermissionError: this user may not read and write there.
      StoreDamagedError: there is a marker, and no database or an empty one.
    """
    if not directory.is_dir():
        raise NotAStoreError(f"{directory}: is not a store's directory.")
    _require_permission(directory)
    marker, database = directory / MARKER, directory / DATABASE
    has_database = database.is_file() and database.stat().st_size > 0
    if marker.exists():
        if not has_database:
            what = "is empty" if database.exists() else "is missing"
            raise damaged(directory, f"{DATABASE} {what}, but the store was not new")
        return marker.read_text(errors="replace").strip()
    if has_database:
        return ""
    others = {path.name for path in directory.iterdir()} - _HARMLESS
    if others:
        raise NotAStoreError(
            f"{directory}: is not a store's directory: it holds {sorted(others)[0]!r} but no store."
        )
    return None


def require_store(directory: pathlib.Path) -> str:
    """Returns the id in the marker of the store that must be there, as `find_store` does."""
    marked = find_store(directory)
    if marked is None:
        raise NotAStoreError(f"{directory}: holds no store.")
    return marked


def write_marker(directory: pathlib.Path, store_id: str) -> None:
    """Writes the marker, and has it and the database's name on the disk on return."""
    partial = directory / f"{MARKER}.partial"
    partial.touch(mode=0o600)
    with partial.open("w") as file:
        file.write(f"{store_id}\n")
        file.flush()
        os.fsync(file.fileno())
    partial.rename(directory / MARKER)
    sync_directory(directory)


def sync_directory(directory: pathlib.Path) -> None:
    """Makes the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_permission(directory: pathlib.Path) -> None:
    for path in (directory, directory / DATABASE, directory / MARKER):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            raise StorePermissionError(
                f"{path}: cannot be read and written by user {os.geteuid()}; change its owner or "
                "name another directory with --store."
            )


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

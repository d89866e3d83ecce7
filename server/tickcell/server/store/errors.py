"""What a store can fail at.

    StoreError
      StoreDamagedError           pages or files do not check out; also at a start
      StoreAwayError              cannot be reached or written for now
      StorePinnedError            (upkeep) a process keeps the log from being used again
      StorePutBackError           (upkeep) the store is an older one than it was
      StoreStartError             the store cannot be opened
        NotAStoreError              the directory is something else
        StorePermissionError        this user may not read or write it
        StoreNoSpaceError           no room for even the first pages
        NetworkFilesystemError      locks cannot be trusted there
        NoSchemaError               the database holds no store
        OlderSchemaError            to be migrated
        NewerSchemaError            written by a newer tickcell
        WrongSettingError           PostgreSQL is set up for less than the durability
        OtherDurabilityError        the store keeps another durability
        StoreInUseError             a process has it open

Every message is a sentence or two that an operator can act on.
"""

from __future__ import annotations

import errno
import pathlib

import apsw

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_DAMAGE_CODES = (apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_SHORT_READ)
_FAILED_SYNC_CODES = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)


class StoreError(Exception):
    """A store cannot do what was asked; the message says why and what to do."""


class StoreDamagedError(StoreError):
    """Pages or files of the store do not check out."""


class StoreAwayError(StoreError):
    """The store cannot be reached or written for a reason of its own."""


class StorePinnedError(StoreError):
    """A process reads one old state of the store for so long that its log grows without end."""


class StorePutBackError(StoreError):
    """The store is an older one than it was: its clock is behind what this server kept."""


class StoreStartError(StoreError):
    """The store cannot be opened."""


class NotAStoreError(StoreStartError):
    """The path is not a store, and not an empty directory that could become one."""


class StorePermissionError(StoreStartError):
    """The store may not be read or written by this user."""


class StoreNoSpaceError(StoreStartError):
    """The disk has no room for even the first pages of the store."""


class NetworkFilesystemError(StoreStartError):
    """The store is on a network file system."""


class NoSchemaError(StoreStartError):
    """The database holds no store."""


class OlderSchemaError(StoreStartError):
    """The store was written by an older tickcell, and is to be migrated."""


class WrongSettingError(StoreStartError):
    """PostgreSQL is set up for less than the durability promises."""


class NewerSchemaError(StoreStartError):
    """The store was written by a newer tickcell."""


class OtherDurabilityError(StoreStartError):
    """The store keeps another durability than was asked for."""


class StoreInUseError(StoreStartError):
    """A process has the store open."""


def damaged(directory: pathlib.Path, what: str) -> StoreDamagedError:
    """Returns the error for a damaged store, with the way out."""
    return StoreDamagedError(
        f"{directory}: {what}; stop its servers, check it with 'tickcell store check --store "
        f"{directory}', and restore a backup with 'tickcell store restore --store {directory} "
        "BACKUP'."
    )


def typed(directory: pathlib.Path, error: apsw.Error) -> StoreError:
    """Returns what an error of SQLite means for whoever uses the store."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError) or is_of(error, _DAMAGE_CODES):
        return damaged(directory, f"is damaged ({error})")
    if isinstance(error, apsw.BusyError):
        return StoreAwayError(f"{directory}: another process has it locked; try again.")
    return StoreAwayError(f"{directory}: cannot be read or written ({error}).")


def means_failed_sync(error: apsw.Error) -> bool:
    """Says whether the disk refused to sync."""
    return is_of(error, _FAILED_SYNC_CODES)


def means_no_room(error: OSError | apsw.Error) -> bool:
    """Says whether an error means that there is no room to write.

    Where a file of SQLite's cannot be made for lack of room, it says only that it
    cannot be opened, or that its shared memory cannot grow.
    """
    if isinstance(error, apsw.Error):
        return isinstance(error, apsw.FullError) or is_of(error, (apsw.SQLITE_IOERR_SHMSIZE,))
    return error.errno in _NO_ROOM


def is_of(error: apsw.Error, codes: tuple[int, ...]) -> bool:
    """Says whether an error has one of SQLite's extended codes."""
    return getattr(error, "extendedresult", None) in codes

"""What a store can refuse or fail at.

    StoreError
      StoreFullError              disk or map is full: nothing of the batch was applied
      StoreStartError             the store cannot be opened
        NotAStoreError              the directory is something else
        StorePermissionError        this user may not read or write it
        StoreNoSpaceError           no room for even the first pages
        NetworkFilesystemError      locks and maps cannot be trusted there
        NewerSchemaError            written by a newer tickcell
        OtherDurabilityError        served with another durability
        OtherPidNamespaceError      served from another PID namespace
        StoreInUseError             a server is live, or the lock cannot be had
        StoreDamagedError           pages or records do not check out

Every message is one sentence, or two, that an operator can act on.
"""

from __future__ import annotations

import errno

import lmdb

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StoreError(ValueError):
    """A store cannot do what was asked; the message says why and what to do."""


class StoreFullError(StoreError):
    """The disk or the map is full; nothing of the batch was applied, reading goes on."""


class StoreStartError(StoreError):
    """The store cannot be opened."""


class NotAStoreError(StoreStartError):
    """The path is not a store, and not an empty directory that could become one."""


class StorePermissionError(StoreStartError):
    """The store may not be read or written by this user."""


class StoreNoSpaceError(StoreStartError):
    """The disk has no room for even the first pages of the store."""


class NetworkFilesystemError(StoreStartError):
    """The store lies on a network file system."""


class NewerSchemaError(StoreStartError):
    """The store was written by a newer tickcell."""


class OtherDurabilityError(StoreStartError):
    """A live server on the store has another durability."""


class OtherPidNamespaceError(StoreStartError):
    """The store is served from another PID namespace."""


class StoreInUseError(StoreStartError):
    """A server is live on the store, or its lock cannot be had."""


class StoreDamagedError(StoreStartError):
    """Pages or records of the store do not check out."""


def means_no_room(error: OSError | lmdb.Error) -> bool:
    """Says whether an error means that there is no room to write.

    LMDB reports a short write, which a disk that fills up gives, as EIO.
    """
    if isinstance(error, lmdb.Error):
        return isinstance(error, lmdb.MapFullError) or error.code in (*_NO_ROOM, errno.EIO)
    return error.errno in _NO_ROOM

"""The store: the one place that holds state. See `Store` for what it promises."""

from __future__ import annotations

from tickcell.server.store.contract import Change, Store
from tickcell.server.store.errors import (
    NetworkFilesystemError,
    NewerSchemaError,
    NotAStoreError,
    OtherDurabilityError,
    OtherPidNamespaceError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreInUseError,
    StoreNoSpaceError,
    StorePermissionError,
    StoreStartError,
)
from tickcell.server.store.lmdb_store import LmdbStore
from tickcell.server.store.memory import MemoryStore

__all__ = [
    "Change",
    "LmdbStore",
    "MemoryStore",
    "NetworkFilesystemError",
    "NewerSchemaError",
    "NotAStoreError",
    "OtherDurabilityError",
    "OtherPidNamespaceError",
    "Store",
    "StoreDamagedError",
    "StoreError",
    "StoreFullError",
    "StoreInUseError",
    "StoreNoSpaceError",
    "StorePermissionError",
    "StoreStartError",
]

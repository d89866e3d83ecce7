"""The store: the one place that holds state. See `EmbeddedStore` for what it promises."""

from __future__ import annotations

from tickcell.server.store.contract import (
    Applied,
    Change,
    Contended,
    Counts,
    EmbeddedStore,
    Full,
    Key,
    Lost,
    Pin,
    Served,
    Sizes,
    Unknown,
    Verdict,
)
from tickcell.server.store.errors import (
    NetworkFilesystemError,
    NewerSchemaError,
    NotAStoreError,
    OtherDurabilityError,
    StoreAwayError,
    StoreDamagedError,
    StoreError,
    StoreInUseError,
    StoreNoSpaceError,
    StorePermissionError,
    StorePinnedError,
    StorePutBackError,
    StoreStartError,
)
from tickcell.server.store.memory import MemoryStore
from tickcell.server.store.sqlite_store import SqliteStore

__all__ = [
    "Applied",
    "Change",
    "Contended",
    "Counts",
    "EmbeddedStore",
    "Full",
    "Key",
    "Lost",
    "MemoryStore",
    "NetworkFilesystemError",
    "NewerSchemaError",
    "NotAStoreError",
    "OtherDurabilityError",
    "Pin",
    "Served",
    "Sizes",
    "SqliteStore",
    "StoreAwayError",
    "StoreDamagedError",
    "StoreError",
    "StoreInUseError",
    "StoreNoSpaceError",
    "StorePermissionError",
    "StorePinnedError",
    "StorePutBackError",
    "StoreStartError",
    "Unknown",
    "Verdict",
]

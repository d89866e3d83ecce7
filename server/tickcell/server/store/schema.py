"""The store's own keys, and the version of what lies under the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickcell.server.store.errors import NewerSchemaError, NotAStoreError

if TYPE_CHECKING:
    import pathlib

# This version and the one before it are read; there is none before 1.
SCHEMA = 1
SCHEMA_KEY = b"\xffschema"

# No UTF-8 text starts with this byte, and it sorts behind all that do.
OWN_KEYS_START = b"\xff"


def encode() -> bytes:
    """Returns the value under the schema's key."""
    return b"%d" % SCHEMA


def is_own_key(key: bytes) -> bool:
    """Says whether a key is the store's own and not a record's."""
    return key >= OWN_KEYS_START


def name(key: bytes) -> str:
    """Returns a record's key for people."""
    # Where there is no owner, a session's key begins with the NUL that follows it.
    return repr(key.decode(errors="backslashreplace").lstrip("\0"))


def require_readable(directory: pathlib.Path, stored: bytes | None) -> int:
    """Returns the schema that a store has.

    Raises:
      NotAStoreError: it has none.
      NewerSchemaError: it is newer than this tickcell.
    """
    if stored is None or not stored.isdigit():
        raise NotAStoreError(f"{directory}: holds an LMDB file that tickcell did not write.")
    if int(stored) > SCHEMA:
        raise NewerSchemaError(
            f"{directory}: has schema {int(stored)}, this tickcell reads up to {SCHEMA}; upgrade "
            "tickcell, or name another directory with --store."
        )
    return int(stored)

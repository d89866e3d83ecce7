"""What PostgreSQL's refusals mean. After each of them nothing was applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from tickcell.server.store.errors import StoreAwayError, StoreDamagedError, StoreError

if TYPE_CHECKING:
    from tickcell.server.store.postgres.address import Address

# What the driver raises where a connection breaks, or was dropped by us amid a statement.
BREAKS = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

# A row was locked for too long; a deadlock; a transaction that other engines give up.
_CONTENDED = {"55P03", "40P01", "40001"}
_FULL = {"53100"}
_DAMAGED = {"XX001", "XX002"}
# It is a standby now, or the tables are gone: the connection is of no use any more.
_USELESS = {"25006", "42P01", "3F000", "42883"}


def words(error: Exception) -> str:
    """Returns what an error says, on one line: PostgreSQL's details and hints have their own."""
    return " ".join(str(error).split()) or type(error).__name__


def is_contended(error: asyncpg.PostgresError) -> bool:
    """Says whether the same may be possible in a moment."""
    return error.sqlstate in _CONTENDED


def is_full(error: asyncpg.PostgresError) -> bool:
    """Says whether there was no room."""
    return error.sqlstate in _FULL


def is_useless(error: asyncpg.PostgresError) -> bool:
    """Says whether to look for the primary again."""
    return error.sqlstate in _USELESS


def typed(address: Address, error: asyncpg.PostgresError) -> StoreError:
    """Returns what a refusal means for whoever uses the store."""
    if error.sqlstate in _DAMAGED:
        return StoreDamagedError(
            f"{address}: PostgreSQL finds it damaged ({words(error)}); stop the servers and "
            "restore a backup of PostgreSQL's."
        )
    return StoreAwayError(f"{address}: PostgreSQL refuses ({words(error)}).")

"""What an acknowledged commit in PostgreSQL survives, and whether it is set up for it.

replicated: the loss of the primary too. It is on the disk of a synchronous standby.
power-loss: a power cut. It is on the primary's disk.
bounded-loss: the end of a server of ours. A crash of PostgreSQL loses what was committed in
    the last three times `wal_writer_delay`, by default 0.6 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tickcell.server.store.errors import StoreAwayError, WrongSettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from tickcell.server.store.postgres.address import Address

Level = Literal["replicated", "power-loss", "bounded-loss"]

_SETTINGS = (
    "SELECT name, setting FROM pg_settings WHERE name IN "
    "('fsync', 'full_page_writes', 'synchronous_commit', 'synchronous_standby_names')"
)
# Of a standby whose state this user may not see, all of it is NULL.
STANDBYS = "SELECT application_name, state, sync_state FROM pg_stat_replication"


class Standbys(NamedTuple):
    """What the primary says of those that follow it.

    Attributes:
      synchronous: the names of those that a commit waits for.
      others: the rest, each with what it is.
    """

    synchronous: list[str]
    others: list[str]


def synchronous_commit(level: Level) -> str:
    """Returns what our connections set."""
    return "off" if level == "bounded-loss" else "on"


async def require(address: Address, connection: asyncpg.Connection[Any], level: Level) -> None:
    """Checks the settings that a level stands on.

    Raises:
      WrongSettingError: PostgreSQL is set up for less.
    """
    found = dict(await connection.fetch(_SETTINGS))
    for name, expected in {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": synchronous_commit(level),
    }.items():
        if found[name] != expected:
            raise WrongSettingError(
                f"{address}: {name} is {found[name]}, expected {expected} for durability {level}; "
                "set it in postgresql.conf and reload, or take another durability."
            )
    if level == "replicated" and not found["synchronous_standby_names"].strip():
        raise WrongSettingError(
            f"{address}: synchronous_standby_names is empty, expected such as 'ANY 1 (one, two)' "
            "for durability replicated; name the standbys in postgresql.conf and reload, or take "
            "durability power-loss."
        )


def standbys(rows: Sequence[Sequence[str | None]]) -> Standbys:
    """Returns who follows the primary, from the rows that `STANDBYS` gives."""
    synchronous, others = [], []
    for name, state, kind in rows:
        if state == "streaming" and kind in ("sync", "quorum"):
            synchronous.append(str(name))
        else:
            others.append(f"{name} ({state or 'not shown to this user'}, {kind or 'unknown'})")
    return Standbys(synchronous, others)


def lacks_standby(address: Address, found: Standbys) -> StoreAwayError:
    """Returns what is said where no commit could be replicated."""
    return StoreAwayError(
        f"{address}: no synchronous standby is connected, and durability replicated needs one; "
        f"connected are: {', '.join(found.others) or 'none'}."
    )

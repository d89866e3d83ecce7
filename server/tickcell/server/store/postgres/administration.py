"""What `tickcell store` does with a store in PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from tickcell.server.store.checking import Checked
from tickcell.server.store.contract import Key
from tickcell.server.store.errors import StoreAwayError
from tickcell.server.store.postgres import address as addresses
from tickcell.server.store.postgres import levels, primary, refusals, schema, statements
from tickcell.server.store.postgres.identity import Identity, write_identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tickcell.server.store.contract import RecordCheck
    from tickcell.server.store.postgres.address import Address
    from tickcell.server.store.postgres.levels import Level
    from tickcell.server.store.postgres.primary import Primary

_Result = TypeVar("_Result")

# Records read in one piece.
_AT_ONCE = 1000

_MISCOUNTED = """
SELECT coalesce(kept.owner, found.owner), kept.live, kept.ended, found.live, found.ended
  FROM tickcell.owner_counts kept FULL JOIN (
    SELECT owner, count(*) FILTER (WHERE is_live) AS live,
      count(*) FILTER (WHERE NOT is_live) AS ended FROM tickcell.record GROUP BY owner
  ) found ON found.owner = kept.owner
  WHERE (kept.live, kept.ended) IS DISTINCT FROM (found.live, found.ended)
"""
_MISCOUNTED_IN_ALL = """
SELECT kept.live, kept.ended, found.live, found.ended FROM tickcell.counts kept, (
    SELECT count(*) FILTER (WHERE is_live) AS live, count(*) FILTER (WHERE NOT is_live) AS ended
      FROM tickcell.record
  ) found WHERE (kept.live, kept.ended) <> (found.live, found.ended)
"""
_MISPINNED = """
SELECT p.model, p.version, p.live, found.live FROM tickcell.pin p, LATERAL (
    SELECT count(*) AS live FROM tickcell.record r WHERE r.pin = p.id AND r.is_live
  ) found WHERE p.live <> found.live
"""
_SERVERS = "SELECT count(*) FROM tickcell.server"


def init(text: str, durability: Level | None) -> str:
    """Creates a store, or migrates one; returns what was done, as a sentence."""

    async def work(address: Address, found: Primary) -> str:
        before, identity = await schema.init(address, found.connection, durability)
        promises = f"durability {identity.durability}"
        if before == 0:
            done = f"holds a new store with schema {schema.version()}, {promises}"
        elif before < schema.version():
            done = f"is migrated from schema {before} to {schema.version()}, {promises}"
        else:
            done = f"holds a store with schema {before} already, {promises}; nothing was changed"
        return f"{address}: {done}."

    return _run(text, work)


def inspect(text: str) -> list[tuple[str, str]]:
    """Returns what a store holds, by what it is."""

    async def work(address: Address, found: Primary) -> list[tuple[str, str]]:
        connection = found.connection
        version = await schema.find(connection)
        schema.require(address, version)
        identity = await Identity.read(address, connection)
        ((live, ended),) = await connection.fetch(statements.COUNTS)
        size = await connection.fetchval(statements.SIZES)
        standbys = levels.standbys(await connection.fetch(levels.STANDBYS))
        servers = await connection.fetchval(_SERVERS)
        return [
            ("store", str(address)),
            ("id", identity.id),
            ("schema", str(version)),
            ("durability", identity.durability),
            ("sessions", f"{live:,} live, {ended:,} ended"),
            ("clock", f"{identity.clock_ns / 1e9:,.0f} s kept up"),
            ("bytes", f"{size:,}"),
            ("primary", f"{primary.place(found.host)}, timeline {found.timeline}"),
            ("standbys", ", ".join([*standbys.synchronous, *standbys.others]) or "none"),
            ("servers", f"{servers} that announced themselves"),
        ]

    return _run(text, work)


def check(text: str, problem: RecordCheck) -> Checked:
    """Checks each record and all counts, also beside live servers; changes nothing."""

    async def work(address: Address, found: Primary) -> Checked:
        connection = found.connection
        schema.require(address, await schema.find(connection))
        await Identity.read(address, connection)
        # All of it as it is at one moment.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _check(connection, problem)

    return _run(text, work)


def change_durability(text: str, level: Level) -> Level:
    """Changes what the store keeps; its servers follow within a second. Returns what it was."""

    async def work(address: Address, found: Primary) -> Level:
        connection = found.connection
        schema.require(address, await schema.find(connection))
        async with connection.transaction():
            await connection.execute("LOCK TABLE tickcell.store IN EXCLUSIVE MODE")
            identity = await Identity.read(address, connection)
            await write_identity(connection, identity._replace(durability=level))
        return identity.durability

    return _run(text, work)


async def _check(connection: asyncpg.Connection[Any], problem: RecordCheck) -> Checked:
    page_problems, record_problems = [], []
    count = 0
    owner = session = b""
    rows = await connection.fetch(statements.SCAN_FROM_THE_BEGINNING, _AT_ONCE)
    while rows:
        for owner, session, value in rows:
            count += 1
            key = Key(owner.decode(errors="replace"), session.decode(errors="replace"))
            what = problem(key, value)
            if what is not None:
                record_problems.append(f"{'/'.join(filter(None, key))}: {what}")
        rows = await connection.fetch(statements.SCAN, owner, session, _AT_ONCE)
    for live, ended, lives, ends in await connection.fetch(_MISCOUNTED_IN_ALL):
        page_problems.append(
            f"the counts are {live} live and {ended} ended, but the records {lives} and {ends}"
        )
    for name, live, ended, lives, ends in await connection.fetch(_MISCOUNTED):
        page_problems.append(
            f"the counts of owner {name.decode(errors='replace')!r} are {live} live and {ended} "
            f"ended, but its records {lives} and {ends}"
        )
    for model, version, live, lives in await connection.fetch(_MISPINNED):
        page_problems.append(
            f"the count of {model} {version} is {live} live, but the records {lives}"
        )
    return Checked(count, page_problems, record_problems)


def _run(text: str, work: Callable[[Address, Primary], Awaitable[_Result]]) -> _Result:
    address = addresses.parse(text)
    addresses.require_files(address)

    async def run() -> _Result:
        async with _connected(address) as found:
            return await work(address, found)

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def _connected(address: Address) -> AsyncIterator[Primary]:
    found = await primary.find(address)
    try:
        # Whatever the plans of ticks need, this reads whole tables.
        await found.connection.execute("SET enable_seqscan = on; SET enable_hashjoin = on")
        yield found
    except (asyncpg.PostgresError, *refusals.BREAKS) as error:
        raise StoreAwayError(f"{address}: cannot be queried ({refusals.words(error)}).") from error
    finally:
        found.connection.terminate()

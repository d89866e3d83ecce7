"""Commits to PostgreSQL: who waits for whom, what a loser hears, and what is never cancelled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg
import pytest
from deploy.cluster.postgres import Postgres

from databases import Databases
from tickcell.server.store import (
    Applied,
    Change,
    Contended,
    Counts,
    Key,
    Lost,
    Pin,
    StoreAwayError,
    Unknown,
)
from tickcell.server.store.postgres.postgres_store import PostgresStore

_Result = TypeVar("_Result")

A, B = Key("", "a"), Key("", "b")
PATIENCE_S = 30.0


@asynccontextmanager
async def opened(address: str, **options: Any) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(address, **options)
    await store.open()
    assert store.note == ""
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def held_by_another(address: str, key: Key) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Holds a record's row, as another server does whose commit waits for its standby."""
    connection = await asyncpg.connect(address)
    try:
        async with connection.transaction():
            await connection.execute(
                "SELECT FROM tickcell.record WHERE session = $1 FOR UPDATE", key.session.encode()
            )
            yield connection
    finally:
        await connection.close()


async def reached(store: PostgresStore) -> None:
    """Waits until the store is connected."""
    until = time.monotonic() + PATIENCE_S
    while store.note:
        assert time.monotonic() < until, store.note
        await asyncio.sleep(0.01)


def server_of(databases: Databases) -> Postgres:
    assert databases.server is not None
    return databases.server


def run(databases: Databases, work: Callable[[str], Awaitable[_Result]]) -> _Result:
    address = databases.new()

    async def main() -> _Result:
        return await work(address)

    return asyncio.run(main())


def test_connections_that_wait_hold_no_lock(databases: Databases) -> None:
    async def work(address: str) -> None:
        async with opened(address):
            held = server_of(databases).query(
                "SELECT relation::regclass FROM pg_locks JOIN pg_class ON pg_class.oid = relation "
                "WHERE relnamespace = 'tickcell'::regnamespace"
            )
            assert held == ""

    run(databases, work)


def test_session_that_another_holds_is_contended_after_a_second(databases: Databases) -> None:
    async def work(address: str) -> None:
        async with opened(address) as store:
            await store.commit([Change(A, None, b"1"), Change(B, None, b"1")])
            async with held_by_another(address, A):
                begin_s = time.monotonic()
                waiting = asyncio.create_task(store.commit([Change(A, b"1", b"2")]))
                # Nobody else waits for it, alone or with others.
                for step in range(1, 20):
                    old, new = str(step).encode(), str(step + 1).encode()
                    assert await store.commit([Change(B, old, new)]) == [Applied()]
                assert not waiting.done()
                assert await waiting == [Contended()]
                assert time.monotonic() - begin_s > 0.9
            assert await store.commit([Change(A, b"1", b"2")]) == [Applied()]

    run(databases, work)


def test_loser_hears_of_what_the_winner_committed_behind_the_lock(databases: Databases) -> None:
    async def work(address: str) -> None:
        async with opened(address) as store:
            await store.commit([Change(A, None, b"1"), Change(B, None, b"1")])
            async with held_by_another(address, A) as another:
                # Each alone, and in a batch: the snapshot shows what was there before.
                waiting = asyncio.create_task(
                    store.commit([Change(A, b"1", b"mine"), Change(B, b"1", b"2")])
                )
                await asyncio.sleep(0.1)
                await another.execute("UPDATE tickcell.record SET value = $1", b"winner")
            verdicts = await waiting
            assert verdicts[0] == Lost(b"winner")
            # The batch had B's row before the other took it, or lost it as well.
            assert verdicts[1] in (Applied(), Lost(b"winner"))

    run(databases, work)


def test_step_that_waited_for_one_who_gave_up_is_applied(databases: Databases) -> None:
    async def work(address: str) -> None:
        async with opened(address) as store:
            await store.commit([Change(A, None, b"1")])
            another = await asyncpg.connect(address)
            await another.execute("BEGIN")
            await another.execute("UPDATE tickcell.record SET value = $1", b"never")
            waiting = asyncio.create_task(store.commit([Change(A, b"1", b"2")]))
            await asyncio.sleep(0.1)
            another.terminate()
            assert await waiting == [Applied()]

    run(databases, work)


def test_two_servers_on_the_same_keys_in_opposite_order_never_lock_each_other_out(
    databases: Databases,
) -> None:
    keys = [Key("", f"{index:03}") for index in range(64)]

    async def write(store: PostgresStore, keys: list[Key], name: bytes, rounds: int) -> int:
        """Steps and turns all sessions; returns how many of the steps were applied."""
        applied = 0
        for number in range(rounds):
            found = await store.load(keys)
            # Each third is the change of a life, which touches the counts.
            is_live = number % 3 > 0
            changes = [
                Change(key, old, name + b"%d" % number, True, is_live)
                for key, old in zip(keys, found, strict=True)
            ]
            verdicts = await store.commit(changes)
            assert all(isinstance(each, Applied | Lost) for each in verdicts), verdicts
            applied += verdicts.count(Applied())
        return applied

    async def work(address: str) -> None:
        async with opened(address) as one, opened(address) as two:
            await one.commit([Change(key, None, b"0") for key in keys])
            counts = await asyncio.gather(
                write(one, keys, b"one", 60), write(two, keys[::-1], b"two", 60)
            )
            assert min(counts) > 0
            live, ended = await one.counts()
            assert live + ended == 64
            connection = await asyncpg.connect(address)
            deadlocks = await connection.fetchval(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            )
            lives = await connection.fetchval("SELECT count(*) FROM tickcell.record WHERE is_live")
            await connection.close()
            assert deadlocks == 0
            assert lives == live

    run(databases, work)


def test_creates_of_two_servers_are_counted_once_each(databases: Databases) -> None:
    pin = Pin("drive", "1", 64 * "1")
    keys = [Key("ann", f"{index:03}") for index in range(100)]

    async def work(address: str) -> None:
        async with opened(address) as one, opened(address) as two:
            firsts, seconds = await asyncio.gather(
                one.commit([Change(key, None, b"one", pin=pin) for key in keys]),
                two.commit([Change(key, None, b"two", pin=pin) for key in keys[::-1]]),
            )
            for first, second in zip(firsts, seconds[::-1], strict=True):
                assert {first, second} in (
                    {Applied(), Lost(b"one")},
                    {Applied(), Lost(b"two")},
                )
            assert await one.counts() == await two.counts("ann") == Counts(100, 0)
            assert await two.pinned() == {pin: 100}

    run(databases, work)


def test_what_arrives_meanwhile_goes_in_one_statement(databases: Databases) -> None:
    keys = [Key("", f"{index:03}") for index in range(200)]

    async def work(address: str) -> None:
        async with opened(address) as store:
            await store.commit([Change(key, None, b"0") for key in keys])
            connection = await asyncpg.connect(address)
            commits = [store.commit([Change(key, b"0", b"1")]) for key in keys]
            assert await asyncio.gather(*commits) == [[Applied()]] * 200
            transactions = await connection.fetchval(
                "SELECT count(DISTINCT xmin::text) FROM tickcell.record"
            )
            await connection.close()
            # The first goes alone; 200 statements would be as many transactions.
            assert transactions <= 4

    run(databases, work)


def test_commit_that_takes_too_long_is_unknown_and_goes_on_in_postgresql(
    databases: Databases,
) -> None:
    async def work(address: str) -> None:
        server = server_of(databases)
        async with opened(address, limit_s=0.5) as store:
            await store.commit([Change(A, None, b"1")])
            server.pause()
            try:
                begin_s = time.monotonic()
                (verdict,) = await store.commit([Change(A, b"1", b"2")])
                assert isinstance(verdict, Unknown)
                assert "not answered for 0.5 s" in verdict.why
                assert time.monotonic() - begin_s < 5
                # From now on nothing is handed over.
                with pytest.raises(StoreAwayError, match=r"not answered for 0.5 s"):
                    await store.commit([Change(A, b"1", b"2")])
            finally:
                server.resume()
            await reached(store)
            # It was never cancelled, so it comes through, and the retry is told so.
            until = time.monotonic() + PATIENCE_S
            while await store.load([A]) != [b"2"]:
                assert time.monotonic() < until
                await asyncio.sleep(0.01)
            assert await store.commit([Change(A, b"1", b"2")]) == [Applied()]
            assert await store.commit([Change(A, b"2", b"3")]) == [Applied()]

    run(databases, work)

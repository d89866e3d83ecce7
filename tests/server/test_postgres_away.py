"""PostgreSQL is killed, replaced and put back: what was acknowledged is there, and all goes on."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from deploy.cluster import postgres
from deploy.cluster.postgres import Postgres

from databases import Databases
from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, in_loop, served
from doubles.slow_link import SlowLink
from server import small_disk
from server.serve_process import ServeProcess
from server.test_postgres_commits import opened, reached
from tickcell.conformance.caller import Caller, Refused, StreamPath
from tickcell.server.store import (
    Applied,
    Change,
    Counts,
    Full,
    Key,
    Pin,
    StoreAwayError,
    StorePutBackError,
    Unknown,
)
from tickcell.server.store.postgres import administration
from tickcell.server.store.postgres.postgres_store import PostgresStore
from tickcell.v1 import session_service_pb2 as pb

KEYS = [Key("", f"{index:03}") for index in range(20)]
A = Key("", "a")
PATIENCE_S = 60.0


def value(number: int) -> bytes:
    """Returns a record of about a session's size."""
    return number.to_bytes(1000, "big")


async def begin(store: PostgresStore) -> dict[Key, int]:
    """Sets all records to the first value; returns what is acknowledged of each."""
    found = await store.load(KEYS)
    changes = [Change(key, old, value(0)) for key, old in zip(KEYS, found, strict=True)]
    assert await store.commit(changes) == [Applied()] * len(KEYS)
    return dict.fromkeys(KEYS, 0)


async def step_on(store: PostgresStore, key: Key, acknowledged: dict[Key, int]) -> None:
    """Steps a record until the store is away."""
    number = 0
    while True:
        try:
            (verdict,) = await store.commit([Change(key, value(number), value(number + 1))])
        except StoreAwayError:
            return
        if verdict != Applied():
            assert isinstance(verdict, Unknown | StoreAwayError), verdict
            return
        number = acknowledged[key] = number + 1


async def assert_nothing_is_lost(store: PostgresStore, acknowledged: dict[Key, int]) -> None:
    for key, found in zip(KEYS, await store.load(KEYS), strict=True):
        assert found is not None
        # The one that was under way may be there or not.
        assert int.from_bytes(found, "big") - acknowledged[key] in (0, 1)
    assert sum(acknowledged.values()) > len(KEYS)


def test_nothing_acknowledged_is_lost_when_postgresql_is_killed(databases: Databases) -> None:
    async def work(server: Postgres) -> None:
        async with opened(server.url) as store:
            for _ in range(2):
                acknowledged = await begin(store)
                writers = [asyncio.create_task(step_on(store, key, acknowledged)) for key in KEYS]
                await asyncio.sleep(0.7)
                server.kill()
                await asyncio.gather(*writers)
                await asyncio.to_thread(server.start)
                await reached(store)
                await assert_nothing_is_lost(store, acknowledged)

    with databases.alone() as server:
        asyncio.run(work(server))


def test_connections_that_are_ended_by_hand_lose_nothing(databases: Databases) -> None:
    def end(server: Postgres, how: str) -> int:
        found = server.query(
            f"SELECT count({how}(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'tickcell' AND state = 'active'"
        )
        return int(found)

    async def step_through(store: PostgresStore, key: Key, acknowledged: dict[Key, int]) -> None:
        """Steps a record on and on; what is not applied, or not known to be, is sent again."""
        while not stop.is_set():
            number = acknowledged[key]
            with contextlib.suppress(StoreAwayError):
                (verdict,) = await store.commit([Change(key, value(number), value(number + 1))])
                if verdict == Applied():
                    acknowledged[key] += 1
                    continue
                assert isinstance(verdict, Unknown | StoreAwayError), verdict
            await asyncio.sleep(0.01)

    async def work(server: Postgres) -> None:
        async with opened(server.url) as store:
            acknowledged = await begin(store)
            writers = [asyncio.create_task(step_through(store, key, acknowledged)) for key in KEYS]
            ended = {"pg_terminate_backend": 0, "pg_cancel_backend": 0}
            until = time.monotonic() + PATIENCE_S
            while min(ended.values()) < 3 and time.monotonic() < until:
                for how in ended:
                    ended[how] += await asyncio.to_thread(end, server, how)
            stop.set()
            await asyncio.gather(*writers)
            assert min(ended.values()) >= 3
            await reached(store)
            await assert_nothing_is_lost(store, acknowledged)

    stop = asyncio.Event()
    with databases.alone() as server:
        asyncio.run(work(server))


def test_full_disk_refuses_creates_and_all_goes_on_when_there_is_room(
    databases: Databases,
) -> None:
    async def work(server: Postgres, disk: Path) -> None:
        async with opened(server.url) as store:
            pin = Pin("model", "1", "0" * 64)
            for number in range(5000):
                key = Key("", f"{number}")
                (verdict,) = await store.commit(
                    [Change(key, None, value(number), is_live=True, pin=pin)]
                )
                if verdict != Applied():
                    break
            assert isinstance(verdict, Full)
            assert "No space left on device" in verdict.why
            assert "\n" not in verdict.why
            # Those that exist step on, in the half of each page that is theirs.
            for step in range(10):
                assert await store.commit([Change(Key("", "0"), value(step), value(step + 1))]) == [
                    Applied()
                ]
            assert await store.counts() == Counts(number, 0)
            (disk / "filler").unlink()
            assert await store.commit([Change(key, None, value(0), is_live=True, pin=pin)]) == [
                Applied()
            ]
            assert await store.counts() == Counts(number + 1, 0)

    with databases.alone() as server:
        disk = Path(server.query("SHOW data_directory")).with_name("disk")
        disk.mkdir()
        with small_disk.mounted(disk, 3 << 20):
            (disk / "filler").write_bytes(bytes(1 << 20))
            owner = Path(server.query("SHOW data_directory")).stat()
            space = disk / "space"
            space.mkdir()
            shutil.chown(space, owner.st_uid, owner.st_gid)
            server.query(f"CREATE TABLESPACE small LOCATION '{space}'")
            server.query("ALTER TABLE tickcell.record SET TABLESPACE small")
            asyncio.run(work(server, disk))
            server.stop()


def test_nothing_acknowledged_is_lost_when_a_standby_is_promoted(databases: Databases) -> None:
    with databases.replicated() as servers:

        async def work() -> None:
            async with opened(servers.url) as store:
                assert store.durability == "replicated"
                acknowledged = await begin(store)
                writers = [asyncio.create_task(step_on(store, key, acknowledged)) for key in KEYS]
                await asyncio.sleep(0.7)
                old = servers.primary
                old.kill()
                await asyncio.gather(*writers)
                new = await asyncio.to_thread(servers.fail_over)
                assert new is not old
                await reached(store)
                await assert_nothing_is_lost(store, acknowledged)
                # The store goes on with what is there, and its clock with it.
                await store.upkeep()
                (found,) = await store.load(KEYS[:1])
                assert await store.commit([Change(KEYS[0], found, b"on")]) == [Applied()]

        asyncio.run(work())


def test_commit_without_its_standby_is_never_acknowledged_nor_seen(databases: Databases) -> None:
    with databases.replicated() as servers:

        async def work() -> None:
            async with opened(servers.url, limit_s=1.0) as store:
                await store.commit([Change(A, None, b"1")])
                for standby in servers.standbys:
                    standby.pause()
                (verdict,) = await store.commit([Change(A, b"1", b"2")])
                assert isinstance(verdict, Unknown)
                # To cancel it would have shown it to everybody, and to a promoted standby never.
                seen = servers.primary.query("SELECT value FROM tickcell.record")
                assert seen == r"\x31"
                servers.primary.kill()
                for standby in servers.standbys:
                    standby.resume()
                await asyncio.to_thread(servers.fail_over)
                await reached(store)
                assert await store.load([A]) in ([b"1"], [b"2"])
                (found,) = await store.load([A])
                assert await store.commit([Change(A, found, b"3")]) == [Applied()]

        asyncio.run(work())


@pytest.mark.slow
def test_wait_for_the_standby_that_is_ended_by_hand_is_no_acknowledgement(
    databases: Databases,
) -> None:
    with databases.replicated() as servers:

        async def work() -> None:
            async with opened(servers.url, limit_s=20.0) as store:
                await store.commit([Change(A, None, b"1")])
                for standby in servers.standbys:
                    standby.pause()
                committing = asyncio.create_task(store.commit([Change(A, b"1", b"2")]))
                until = time.monotonic() + PATIENCE_S
                while time.monotonic() < until:
                    cancelled = servers.primary.query(
                        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
                        "WHERE wait_event = 'SyncRep'"
                    )
                    if cancelled == "t":
                        break
                    await asyncio.sleep(0.01)
                (verdict,) = await committing
                assert isinstance(verdict, Unknown)
                assert "canceling wait for synchronous replication" in verdict.why
                for standby in servers.standbys:
                    standby.resume()

        asyncio.run(work())


@pytest.mark.slow
def test_old_primary_that_comes_back_is_not_the_store(databases: Databases) -> None:
    with databases.replicated() as servers:

        async def work() -> None:
            old = servers.primary
            async with opened(servers.url) as store:
                await store.commit([Change(A, None, b"1")])
                old.kill()
                await asyncio.to_thread(servers.fail_over)
                await reached(store)
                assert await store.commit([Change(A, b"1", b"2")]) == [Applied()]
                others = [each for each in servers.servers if each is not old]
                # Both take commits now, as far as they know.
                await asyncio.to_thread(old.start)
                assert old.query("SELECT pg_is_in_recovery()") == "f"
                for each in others:
                    each.pause()
                (verdict,) = await store.commit([Change(A, b"2", b"3")])
                assert isinstance(verdict, Unknown)
                until = time.monotonic() + PATIENCE_S
                while "it is an old primary that came back" not in store.note:
                    assert time.monotonic() < until, store.note
                    await asyncio.sleep(0.05)
                for each in others:
                    each.resume()
                await reached(store)
                assert await store.load([A]) in ([b"2"], [b"3"])

        asyncio.run(work())


def test_of_two_primaries_the_one_that_was_promoted_is_taken_though_it_answers_late(
    databases: Databases,
) -> None:
    with databases.alone() as old, postgres.directory() as path:
        new = Postgres(path / "new", name="new")
        new.copy(old)
        with new:
            new.promote()
            link = SlowLink(new.address, round_trip_s=0.1)
            address = old.url.replace(old.address, f"{old.address},{link.address}")
            found = dict(administration.inspect(address))
            link.close()
    assert found["primary"] == f"{link.address}, timeline 2"


def test_store_that_was_put_back_is_found_out(databases: Databases) -> None:
    with databases.alone() as server:
        backup = Path(server.query("SHOW data_directory")).with_name("backup")

        async def work() -> None:
            async with opened(server.url) as store:
                await store.commit([Change(A, None, b"1")])
                await store.upkeep()
                await asyncio.to_thread(server.back_up, backup)
                assert await store.commit([Change(A, b"1", b"2")]) == [Applied()]
                for _ in range(3):
                    await asyncio.sleep(0.02)
                    await store.upkeep()
                before_ns = store.now_ns()
                await asyncio.to_thread(server.put_back, backup)
                await reached(store)
                with pytest.raises(StorePutBackError, match="was put back to an older state"):
                    await store.upkeep()
                assert store.now_ns() < before_ns
                # Once, and from then on it goes on from there.
                await store.upkeep()
                assert await store.load([A]) == [b"1"]

        asyncio.run(work())


def test_stream_outlives_its_store(databases: Databases) -> None:
    with databases.alone() as server:
        store = PostgresStore(server.url)
        in_loop(store.open)
        try:
            with InProcessServer([served(CountingCell())], store) as replica:
                step_through_an_absence(server, replica)
        finally:
            in_loop(store.close)


def step_through_an_absence(server: Postgres, replica: InProcessServer) -> None:
    health = replica.observer.health
    with Caller(replica.address) as caller, StreamPath(caller) as stream:
        session = caller.create(session="robot")

        def step(index: int) -> float:
            request = pb.StreamStepsRequest(
                session=session.id,
                generation=session.generation,
                first_step=index,
                step_count=1,
                frames=[1.0],
            )
            (output,) = stream.send(request.SerializeToString()).outputs
            return output

        assert step(0) == 1.0
        server.kill()
        with pytest.raises(Refused) as first:
            step(1)
        assert first.value.reason in ("OUTCOME_UNKNOWN", "STORE_AWAY")
        wait_until(lambda: not health.is_serving)
        with pytest.raises(Refused) as refused:
            step(1)
        assert (refused.value.reason, refused.value.retry_s) == ("STORE_AWAY", 1.0)
        server.start()
        wait_until(lambda: health.is_serving)
        # On the stream that was open all the time.
        assert step(1) == 1001.0
        assert step(2) == 2001.0


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_server_that_starts_without_its_store_serves_when_it_is_there(
    databases: Databases,
) -> None:
    with databases.alone() as server:
        server.stop()
        arguments = ("--store", server.url, "--listen", "localhost:0", "--metrics", "localhost:0")
        with ServeProcess(*arguments) as process:
            assert any("the store is away" in line for line in process.banner)
            assert any(
                ", away, durability as the store keeps it" in line for line in process.banner
            )
            wait_until(lambda: probe(process, "readyz") == (503, "the store accepts no commits"))
            assert probe(process, "livez")[0] == 200
            with Caller(process.address) as caller:
                with pytest.raises(Refused) as refused:
                    caller.create(session="early")
                assert refused.value.reason == "STORE_AWAY"
                assert refused.value.retry_s == 1.0
                server.start()
                wait_until(lambda: probe(process, "readyz")[0] == 200)
                assert caller.create(session="early").next_step == 0
            status, log = process.end(signal.SIGTERM)
            assert status == 0
            assert "the store is back" in log


def probe(process: ServeProcess, name: str) -> tuple[int, str]:
    """Asks a probe; returns its status and what it says."""
    try:
        with urllib.request.urlopen(f"http://{process.watched}/{name}", timeout=30) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().strip()

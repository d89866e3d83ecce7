"""A store in PostgreSQL is opened only where it keeps its promise, else a sentence helps."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest
from click.testing import CliRunner, Result
from deploy.cluster.postgres import Postgres

from databases import Databases
from server import store_records
from server.test_postgres_commits import opened, reached, server_of
from tickcell.server.config import Config, ConfigError
from tickcell.server.store import (
    Change,
    Key,
    NewerSchemaError,
    NoSchemaError,
    NotAStoreError,
    OlderSchemaError,
    OtherDurabilityError,
    Pin,
    StoreAwayError,
    StoreDamagedError,
    StoreError,
    WrongSettingError,
    commands,
)
from tickcell.server.store.postgres import address as addresses
from tickcell.server.store.postgres import administration, identity, schema
from tickcell.server.store.postgres.link import Link
from tickcell.server.store.postgres.postgres_store import PostgresStore


def refusal(address: str, durability: str | None = None) -> StoreError:
    """Opens a store that must be refused; returns why."""

    async def work() -> StoreError:
        store = PostgresStore(address, durability=durability)  # type: ignore[arg-type]
        try:
            await store.open()
        except StoreError as error:
            return error
        finally:
            await store.close()
        raise AssertionError("it was opened")

    return asyncio.run(work())


def why_away(address: str) -> str:
    """Opens a store that is away for now; returns what it says."""

    async def work() -> str:
        store = PostgresStore(address)
        await store.open()
        try:
            with pytest.raises(StoreAwayError):
                await store.load([Key("", "a")])
            return store.note
        finally:
            await store.close()

    return asyncio.run(work())


def test_database_without_a_store_names_the_command_that_makes_one(databases: Databases) -> None:
    address = databases.new()
    server_of(databases).query("DROP SCHEMA tickcell CASCADE")
    error = refusal(address)
    assert isinstance(error, NoSchemaError)
    assert str(error).endswith(f"run 'tickcell store init {address}'.")


@pytest.mark.parametrize(("found", "kind"), [(0, OlderSchemaError), (9, NewerSchemaError)])
def test_store_of_another_release_is_refused(
    databases: Databases,
    found: int,
    kind: type[StoreError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = databases.new()
    if found:
        server_of(databases).query(f"UPDATE tickcell.store SET schema = {found}")
    else:
        monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, "SELECT 1"))
    error = refusal(address)
    assert isinstance(error, kind)
    assert "has schema" in str(error)
    assert "expected" in str(error)


def test_init_migrates_an_older_store_and_keeps_what_it_holds(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = databases.new()

    async def write(store_address: str) -> str:
        async with opened(store_address) as store:
            await store.commit([Change(Key("", "a"), None, b"1")])
            return store.id

    before = asyncio.run(write(address))
    step = "ALTER TABLE tickcell.server ADD COLUMN note text"
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, step))
    assert "is migrated from schema 1 to 2, durability power-loss." in administration.init(
        address, None
    )
    assert "holds a store with schema 2 already" in administration.init(address, None)

    async def read() -> tuple[str, list[bytes | None]]:
        async with opened(address) as store:
            return store.id, await store.load([Key("", "a")])

    assert asyncio.run(read()) == (before, [b"1"])


def test_migration_that_fails_changes_nothing(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = databases.new()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", (*schema.STEPS, "DROP TABLE tickcell.pin; SELECT 1 / 0"))
        with pytest.raises(StoreError, match="division by zero"):
            administration.init(address, None)
    assert "holds a store with schema 1 already" in administration.init(address, None)
    assert administration.check(address, lambda *_: None).page_problems == []


def test_two_who_init_at_once_make_one_store(databases: Databases) -> None:
    address = databases.new()
    server_of(databases).query("DROP SCHEMA tickcell CASCADE")
    command = [sys.executable, "-c", "from tickcell.server.store.commands import store; store()"]
    both = [
        subprocess.Popen(
            [*command, "init", address],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = sorted(process.communicate(timeout=60)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0], said
    assert "holds a new store" in said[0], said
    assert "already" in said[1], said


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_setting_that_loses_what_was_acknowledged_is_refused(
    databases: Databases, name: str
) -> None:
    with databases.alone() as server:
        server.settings[name] = "off"
        server.reload()
        wait_for_setting(server, name, "off")
        error = refusal(server.url)
        assert isinstance(error, WrongSettingError)
        assert f"{name} is off, expected on for durability power-loss" in str(error)


def wait_for_setting(server: Postgres, name: str, value: str) -> None:
    """Waits until a server has read its settings again."""
    for _ in range(1000):
        if server.query(f"SHOW {name}") == value:
            return
    raise AssertionError(f"{name} never was {value}")


def test_replicated_without_standbys_in_the_settings_is_refused(databases: Databases) -> None:
    error = refusal(databases.new("replicated"))
    assert isinstance(error, WrongSettingError)
    assert "synchronous_standby_names is empty" in str(error)
    assert "ANY 1" in str(error)


def test_replicated_without_a_standby_that_is_connected_is_away(databases: Databases) -> None:
    with databases.alone("replicated") as server:
        server.settings["synchronous_standby_names"] = "'ANY 1 (one, two)'"
        server.reload()
        wait_for_setting(server, "synchronous_standby_names", "ANY 1 (one, two)")
        assert "no synchronous standby is connected" in why_away(server.url)


def test_durability_is_the_stores_own_and_no_server_chooses_another(databases: Databases) -> None:
    address = databases.new("bounded-loss")
    error = refusal(address, "power-loss")
    assert isinstance(error, OtherDurabilityError)
    assert f"tickcell store durability --store {address} power-loss" in str(error)


def test_changed_durability_is_followed_by_a_server_that_runs(databases: Databases) -> None:
    address = databases.new("bounded-loss")

    async def work() -> None:
        async with opened(address) as store:
            assert store.durability == "bounded-loss"
            changing = asyncio.to_thread(administration.change_durability, address, "power-loss")
            assert await changing == "bounded-loss"
            await store.upkeep()
            await reached(store)
            assert store.durability == "power-loss"
            await store.upkeep()
            assert store.note == ""

    asyncio.run(work())


def test_store_that_a_newer_release_migrates_is_left_by_a_server_that_runs(
    databases: Databases,
) -> None:
    address = databases.new()

    async def work() -> None:
        async with opened(address) as store:
            server_of(databases).query("UPDATE tickcell.store SET schema = 9")
            await store.upkeep()
            with pytest.raises(StoreAwayError):
                await store.commit([Change(Key("", "a"), None, b"1")])
            until = time.monotonic() + 30
            while "a newer tickcell has migrated it" not in store.note:
                assert time.monotonic() < until, store.note
                await asyncio.sleep(0.01)

    asyncio.run(work())


def test_durability_that_changes_amid_an_upkeep_leaves_a_store_that_checks_out(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = databases.new("bounded-loss")
    fetch = Link.fetch

    async def changed_between(link: Link, statement: str, *values: object) -> list[Any]:
        rows = await fetch(link, statement, *values)
        if statement == identity.READ:
            monkeypatch.setattr(Link, "fetch", fetch)
            await asyncio.to_thread(administration.change_durability, address, "power-loss")
        return rows

    async def work() -> None:
        async with opened(address) as store:
            await store.upkeep()
            monkeypatch.setattr(Link, "fetch", changed_between)
            # Its statement comes too late to keep anything, and the next sees why.
            await store.upkeep()
            await store.upkeep()
            await reached(store)
            assert store.durability == "power-loss"
            await store.upkeep()
        async with opened(address) as store:
            assert store.durability == "power-loss"

    asyncio.run(work())


def test_store_that_was_moved_to_a_younger_server_is_opened(databases: Databases) -> None:
    address = databases.new()
    # As `pg_dump` and `pg_upgrade` leave it after a failover: the log of the new server begins
    # with timeline 1 again.
    server_of(databases).query("UPDATE tickcell.store SET timeline = 7")

    async def work() -> None:
        async with opened(address) as store:
            await store.upkeep()

    asyncio.run(work())
    assert server_of(databases).query("SELECT timeline FROM tickcell.store") == "1"


def test_damaged_identity_is_no_store_to_begin_from(databases: Databases) -> None:
    address = databases.new()
    server_of(databases).query("UPDATE tickcell.store SET clock_ns = 77")
    assert isinstance(refusal(address), StoreDamagedError)


def test_nobody_there_is_away_and_says_who_was_asked() -> None:
    note = why_away("postgresql://tickcell@127.0.0.1:1,localhost:2/tickcell")
    assert "no primary answers" in note
    assert "127.0.0.1:1: " in note
    assert "localhost:2: " in note


@pytest.mark.slow
def test_standby_alone_is_no_store(databases: Databases) -> None:
    with databases.replicated() as servers:
        (standby, *_) = servers.standbys
        assert "is a standby" in why_away(standby.url)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://me:secret@db/tickcell", "the address has a password"),
        ("postgresql://me@db/tickcell?password=secret", "the address has a password"),
        ("postgresql://me@/tickcell?host=db1,db2", "write them before the database"),
        ("mysql://me@db/tickcell", "is not the address of a PostgreSQL"),
        ("postgresql:///tickcell", "got '' for a host, expected HOST or HOST:PORT"),
        ("postgresql://me@db1,/tickcell", "got '' for a host"),
        ("postgresql://me@db1:5432,db2:x/tickcell", "got 'db2:x' for a host"),
    ],
)
def test_address_is_refused_where(address: str, said: str) -> None:
    with pytest.raises(NotAStoreError, match=said) as refused:
        PostgresStore(address)
    assert "secret" not in str(refused.value)


def test_each_host_has_what_the_address_says_of_all() -> None:
    text = "postgresql://me@db1,db2:6543/cells?sslmode=verify-full&passfile=%2Frun%2Fpgpass"
    rest = "/cells?sslmode=verify-full&passfile=%2Frun%2Fpgpass"
    assert addresses.parse(text).hosts == (
        f"postgresql://me@db1{rest}",
        f"postgresql://me@db2:6543{rest}",
    )


@pytest.mark.parametrize(
    ("store", "durability"), [("postgresql://db/x", "process-crash"), ("/srv/x", "replicated")]
)
def test_durability_that_the_store_cannot_have_is_refused(store: str, durability: str) -> None:
    with pytest.raises(ConfigError, match="expected one of"):
        Config(store=store, durability=durability)  # type: ignore[arg-type]


# The commands.


def command(*arguments: object) -> Result:
    result = CliRunner().invoke(commands.store, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_inspect_shows_what_a_store_holds(databases: Databases) -> None:
    address = databases.new()
    result = command("inspect", "--store", address)
    assert result.exit_code == 0
    for line in (f"store       {address}", "schema      1", "durability  power-loss"):
        assert line in result.output.splitlines()
    assert "sessions    0 live, 0 ended" in result.output


def test_check_finds_records_and_counts_that_are_wrong(databases: Databases) -> None:
    address = databases.new()
    pin = Pin("drive", "1", 64 * "1")

    async def fill() -> None:
        async with opened(address) as store:
            keys = [store_records.key(index) for index in range(3)]
            await store.commit([Change(key, None, b"no record", pin=pin) for key in keys])

    asyncio.run(fill())
    result = command("check", "--store", address)
    assert result.exit_code == 1
    assert "3 records, 3 problems." in result.output
    server = server_of(databases)
    server.query("DELETE FROM tickcell.record")
    result = command("check", "--store", address)
    assert "the counts are 3 live and 0 ended, but the records 0 and 0" in result.output
    assert "the count of drive 1 is 3 live, but the records 0" in result.output


@pytest.mark.parametrize(
    ("arguments", "tool"), [(("backup",), "pg_basebackup"), (("restore",), "pg_restore")]
)
def test_copies_are_left_to_the_tools_of_postgresql(arguments: tuple[str], tool: str) -> None:
    result = command(*arguments, "--store", "postgresql://db/x", "copy")
    assert result.exit_code == 1
    assert f"use PostgreSQL's own tools, such as {tool}" in result.output


def test_init_of_a_directory_says_that_none_is_needed() -> None:
    result = command("init", "/srv/store")
    assert result.exit_code == 2
    assert "a directory becomes a store by itself" in result.output

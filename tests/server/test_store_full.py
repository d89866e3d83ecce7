"""A store on a full disk: what is new is refused, what exists goes on, until there is room."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import time
from collections.abc import Iterator

import pytest

from doubles.manual_clock import ManualClock
from server import small_disk, store_records
from server.store_process import StoreProcess
from tickcell.server.store import (
    Applied,
    Change,
    Contended,
    Full,
    Key,
    SqliteStore,
    StoreAwayError,
    StoreNoSpaceError,
    Verdict,
)
from tickcell.server.store.reserve import Reserve

DISK_BYTES = 24 << 20
LARGE_BYTES = 512 << 10


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    with small_disk.mounted(tmp_path, DISK_BYTES):
        yield tmp_path


@pytest.fixture
def store(disk: pathlib.Path) -> Iterator[SqliteStore]:
    opened = SqliteStore.open(disk / "store")
    yield opened
    opened.close()


def commit(store: SqliteStore, change: Change) -> Verdict:
    """Commits as a server does: it tries again while the store is contended."""
    while isinstance(verdict := store.commit([change])[0], Contended):
        time.sleep(0.001)
    return verdict


def add_until_full(store: SqliteStore) -> dict[Key, bytes]:
    """Creates records until that is refused, and returns those that were acknowledged."""
    records = dict[Key, bytes]()
    while True:
        key = store_records.key(len(records))
        change = store_records.step(key, None, 1300)
        verdict = commit(store, change)
        if isinstance(verdict, Full):
            return records
        assert verdict == Applied()
        assert change.replacement is not None
        records[key] = change.replacement


def step_all(store: SqliteStore, records: dict[Key, bytes]) -> None:
    for key, old in records.items():
        change = store_records.step(key, old, 1300)
        assert commit(store, change) == Applied()
        assert change.replacement is not None
        records[key] = change.replacement
        # As the upkeep, more often than that.
        if int(key.session) % 1000 == 0:
            _keep_up(store)


def test_sessions_that_exist_step_on_and_can_be_deleted(store: SqliteStore) -> None:
    records = add_until_full(store)
    assert len(records) > 1000
    for _ in range(5):
        step_all(store, records)
    new = store_records.step(Key("", "new"), None, 1300)
    assert isinstance(commit(store, new), Full)
    for key in list(records)[::2]:
        assert commit(store, Change(key, records.pop(key), None)) == Applied()
    step_all(store, records)
    assert store.load(list(records)) == list(records.values())
    assert store.counts().live == len(records)


def test_create_that_was_applied_before_the_disk_was_full_is_applied(store: SqliteStore) -> None:
    records = add_until_full(store)
    key, value = next(iter(records.items()))
    assert commit(store, Change(key, None, value)) == Applied()


def test_create_beside_a_step_is_refused_and_the_step_applied(store: SqliteStore) -> None:
    records = add_until_full(store)
    key, old = next(iter(records.items()))
    step = store_records.step(key, old, 1300)
    new = store_records.step(Key("", "new"), None, 1300)
    full, applied = store.commit([new, step])
    assert isinstance(full, Full)
    assert applied == Applied()
    assert store.load([new.key, key]) == [None, step.replacement]


def test_disk_that_others_fill_refuses_creates_until_there_is_room(
    store: SqliteStore, disk: pathlib.Path
) -> None:
    key = store_records.key(0)
    change = store_records.step(key, None)
    assert commit(store, change) == Applied()
    small_disk.fill(disk / "logs")
    _keep_up(store)
    # Also what the reserve left, this time.
    small_disk.fill(disk / "more")
    _keep_up(store)
    new = store_records.step(store_records.key(1), None)
    assert isinstance(commit(store, new), Full)
    records = {key: change.replacement or b""}
    for name in ("logs", "more"):
        (disk / name).unlink()
    store.upkeep()
    assert (disk / "store" / "reserve").stat().st_size > 0
    assert commit(store, new) == Applied()
    step_all(store, records)


def test_step_finds_room_by_itself_on_a_disk_that_fills_at_once(
    store: SqliteStore, disk: pathlib.Path
) -> None:
    records = dict[Key, bytes]()
    for index in range(500):
        change = store_records.step(store_records.key(index), None, 1300)
        assert commit(store, change) == Applied()
        records[change.key] = change.replacement or b""
    small_disk.fill(disk / "logs")
    # No upkeep has looked in between.
    for _ in range(4):
        step_all(store, records)


def fill_all(store: SqliteStore, disk: pathlib.Path) -> Change:
    """Fills the disk and what the reserve leaves; returns a step that has no room."""
    # The database has none either, for what is in the log.
    for name in range(4):
        change = store_records.step(store_records.key(name), None, LARGE_BYTES)
        assert commit(store, change) == Applied()
    small_disk.fill(disk / "logs")
    # As another server gives it up.
    os.truncate(disk / "store" / "reserve", 0)
    small_disk.fill(disk / "more logs")
    return store_records.step(change.key, change.replacement, LARGE_BYTES)


def fill_until_refused(store: SqliteStore, disk: pathlib.Path) -> Change:
    """Fills the disk until a step is refused, and makes room for the clock, but not the reserve.

    Returns the step.
    """
    change = fill_all(store, disk)
    assert isinstance(commit(store, change), Full)
    os.truncate(disk / "more logs", (disk / "more logs").stat().st_size - 5 * LARGE_BYTES)
    return change


def test_no_time_passes_while_the_clock_finds_no_room(disk: pathlib.Path) -> None:
    clock = ManualClock()
    store = SqliteStore.open(disk / "store", monotonic_ns=clock.now_ns)
    fill_all(store, disk)
    before = store.now_ns()
    for _ in range(60):
        clock.advance(1.0)
        with pytest.raises(StoreAwayError, match="full"):
            store.upkeep()
        assert store.now_ns() <= before + 2 * 10**9
    store.close()


def test_no_time_passes_from_a_step_without_room_until_the_reserve_is_back(
    disk: pathlib.Path,
) -> None:
    clock = ManualClock()
    store = SqliteStore.open(disk / "store", monotonic_ns=clock.now_ns)
    refused = fill_until_refused(store, disk)
    # The log could not be copied either.
    with pytest.raises(StoreAwayError, match="full"):
        store.upkeep()
    before = store.now_ns()
    for _ in range(60):
        clock.advance(1.0)
        # The clock's own commit finds room.
        store.upkeep()
        assert store.now_ns() == before
    for logs in disk.glob("*logs"):
        logs.unlink()
    store.upkeep()
    assert commit(store, refused) == Applied()
    assert store.now_ns() == before
    for _ in range(2):
        clock.advance(1.0)
        store.upkeep()
    assert before < store.now_ns() <= before + 2 * 10**9
    store.close()


def test_no_time_passes_on_other_servers_once_a_step_found_no_room(
    store: SqliteStore, disk: pathlib.Path
) -> None:
    with StoreProcess(disk / "store") as other:
        assert other.ask("open") == "open"
        fill_until_refused(store, disk)
        before = int(other.ask("now"))
        for _ in range(60):
            other.ask("pass 1")
            assert other.ask("upkeep") == "done"
        # Until it saw that, it went on.
        assert int(other.ask("now")) - before < 3 * 10**9


def test_new_store_on_a_full_disk_is_refused(disk: pathlib.Path) -> None:
    small_disk.fill(disk / "logs")
    with pytest.raises(StoreNoSpaceError, match="the disk is full"):
        SqliteStore.open(disk / "store")
    (disk / "logs").unlink()
    SqliteStore.open(disk / "store").close()


@pytest.mark.parametrize("end", ["kill", "close"])
def test_server_starts_again_on_a_full_disk(disk: pathlib.Path, end: str) -> None:
    directory = disk / "store"
    with StoreProcess(directory) as process:
        assert process.ask("open") == "open"
        process.ask("add 1000")
        small_disk.fill(disk / "logs")
        if end == "close":
            assert process.ask("close") == "closed"
    with StoreProcess(directory) as process:
        assert process.ask("open") == "open"
        assert process.ask("get 000999") == "1"
        assert process.ask("set 000000 2") == "Applied"
        assert process.ask("set 999999 1") == "Full"


def test_reserve_is_of_a_part_of_a_tiny_disk(disk: pathlib.Path) -> None:
    SqliteStore.open(disk / "store").close()
    assert (disk / "store" / "reserve").stat().st_size == DISK_BYTES // 8


def test_reserve_is_given_up_before_the_disk_is_full(disk: pathlib.Path) -> None:
    SqliteStore.open(disk / "store").close()
    reserve = Reserve(disk / "store")
    reserve.tend()
    assert reserve.is_held
    free = os.statvfs(disk)
    (disk / "logs").write_bytes(bytes(free.f_bavail * free.f_frsize - (200 << 10)))
    reserve.tend()
    assert not reserve.is_held
    free = os.statvfs(disk)
    assert free.f_bavail * free.f_frsize >= DISK_BYTES // 8
    reserve.tend()
    assert not reserve.is_held
    (disk / "logs").unlink()
    reserve.tend()
    assert reserve.is_held


def test_reserve_that_did_not_do_is_noted_until_it_is_back(
    disk: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    SqliteStore.open(disk / "store").close()
    reserve, another = Reserve(disk / "store"), Reserve(disk / "store")
    reserve.give_up()
    assert not another.is_used_up()
    reserve.note_used_up()
    another.give_up()
    with monkeypatch.context() as patch:
        # Others were quicker to take the room.
        patch.setattr(os, "posix_fallocate", refuse)
        another.tend()
    assert not another.is_held
    assert reserve.is_used_up()
    another.tend()
    assert another.is_held
    assert not reserve.is_used_up()


def _keep_up(store: SqliteStore) -> None:
    """Does the upkeep, whose own commit may find no room either."""
    with contextlib.suppress(StoreAwayError):
        store.upkeep()

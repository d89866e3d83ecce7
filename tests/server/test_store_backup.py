"""Backups are whole and of one moment; a restore replaces all of a store, or nothing."""

from __future__ import annotations

import pathlib

import apsw
import pytest

from server import small_disk, store_records
from server.store_process import StoreProcess
from tickcell.server.store import (
    Applied,
    NotAStoreError,
    SqliteStore,
    StoreDamagedError,
    StoreError,
    StoreInUseError,
    database,
    directory,
)
from tickcell.server.store import backup as backups


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """A store of 100 sessions that no process has open."""
    store = SqliteStore.open(tmp_path / "store", durability="power-loss")
    store.commit([store_records.step(store_records.key(index), None) for index in range(100)])
    store.close()
    return tmp_path / "store"


def versions(path: pathlib.Path) -> dict[str, int]:
    """Returns each session's version; every record must check out."""
    store = SqliteStore.open(path)
    found = store.scan(None, None, 1 << 20)
    assert store.counts().live == len(found)
    store.close()
    return {key.session: store_records.version(key, record) for key, record in found}


def test_restored_backup_has_the_same_sessions_and_another_id(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    before = versions(path)
    backup = tmp_path / "monday.db"
    assert backups.backup(path, backup, store_records.problem) == (100, [], [])
    restored = backups.restore(tmp_path / "new", backup, store_records.problem)
    assert restored == ((100, [], []), None)
    assert versions(tmp_path / "new") == before
    old, new = SqliteStore.open(path), SqliteStore.open(tmp_path / "new")
    assert old.id != new.id
    assert new.syncs
    assert 0 <= old.now_ns() - new.now_ns() < 3_000_000_000
    old.close()
    new.close()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["monday.db", "new", "store"]


def test_backup_beside_a_live_writer_is_of_one_moment(tmp_path: pathlib.Path) -> None:
    with StoreProcess(tmp_path / "store") as writer:
        writer.ask("open")
        writer.ask("add 200")
        writer.tell("tick")
        for attempt in range(5):
            while not writer.answer().startswith("000150"):
                pass
            backup = tmp_path / f"{attempt}.db"
            checked = backups.backup(tmp_path / "store", backup, store_records.problem)
            assert checked == (200, [], [])
            backups.restore(tmp_path / f"restored-{attempt}", backup, store_records.problem)
            found = list(versions(tmp_path / f"restored-{attempt}").values())
            # The writer steps one after the other: so many of the next version, the rest behind.
            assert found == sorted(found, reverse=True)
            assert found[0] - found[-1] in (0, 1)


def test_restore_over_a_killed_servers_leftovers_is_whole(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    before = versions(path)
    backup = tmp_path / "backup.db"
    backups.backup(path, backup, store_records.problem)
    with StoreProcess(path) as server:
        server.ask("open")
        for _ in range(20):
            server.ask("increment 000007 50")
        server.ask("add 150")
        server.kill()
    assert (path / "store.db-wal").stat().st_size > 0
    restored = backups.restore(path, backup, store_records.problem)
    assert versions(path) == before
    # The old store is whole too, where it lies.
    assert restored.aside is not None
    assert {found.name for found in restored.aside.iterdir()} >= {"store.db", "store.db-wal"}
    connection = apsw.Connection(str(restored.aside / "store.db"))
    assert connection.execute("SELECT count(*) FROM record").fetchall() == [(150,)]
    connection.close()


def test_restore_that_is_cut_short_is_refused_until_it_is_run_again(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    before = versions(path)
    backup = tmp_path / "backup.db"
    backups.backup(path, backup, store_records.problem)
    # What lies there after each of its steps: the marker, and the files moved in turn.
    directory.write_marker(path, database.new_id())
    with pytest.raises(StoreDamagedError, match="restore"):
        SqliteStore.open(path)
    (path / "store.db").rename(tmp_path / "aside.db")
    with pytest.raises(StoreDamagedError, match="restore"):
        SqliteStore.open(path)
    backups.restore(path, backup, store_records.problem)
    assert versions(path) == before


def test_restore_while_a_server_has_the_store_open_is_refused(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    backup = tmp_path / "backup.db"
    backups.backup(path, backup, store_records.problem)
    with StoreProcess(path) as server:
        server.ask("open")
        with pytest.raises(StoreInUseError, match=f"pid {server.pid}"):
            backups.restore(path, backup, store_records.problem)
        assert server.ask("set 000000 9") == "Applied"
        assert server.ask("upkeep") == "done"
        server.ask("close")
    assert versions(path)["000000"] == 9


@pytest.mark.parametrize("content", [b"", b"not a database" * 100, None])
def test_backup_that_is_none_is_refused_and_the_store_as_it_was(
    path: pathlib.Path, tmp_path: pathlib.Path, content: bytes | None
) -> None:
    source = tmp_path / "backup.db"
    if content is not None:
        source.write_bytes(content)
    before = versions(path)
    names = {found.name for found in path.iterdir()}
    with pytest.raises((StoreDamagedError, NotAStoreError)):
        backups.restore(path, source, store_records.problem)
    assert {found.name for found in path.iterdir()} == names
    assert versions(path) == before


def test_damaged_backup_is_refused_and_the_store_as_it_was(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    backup = tmp_path / "backup.db"
    backups.backup(path, backup, store_records.problem)
    content = bytearray(backup.read_bytes())
    content[6 * 4096 : 7 * 4096] = bytes(4096)
    backup.write_bytes(content)
    before = versions(path)
    with pytest.raises(StoreDamagedError, match="name another backup"):
        backups.restore(path, backup, store_records.problem)
    assert versions(path) == before


def test_backup_of_a_damaged_store_is_refused_and_leaves_nothing(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    content = bytearray((path / "store.db").read_bytes())
    content[6 * 4096 : 7 * 4096] = bytes(4096)
    (path / "store.db").write_bytes(content)
    with pytest.raises(StoreDamagedError, match="so there is no backup"):
        backups.backup(path, tmp_path / "backup.db", store_records.problem)
    assert [found.name for found in tmp_path.iterdir()] == ["store"]


def test_backup_keeps_a_record_that_does_not_check_out(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    key = store_records.key(7)
    store = SqliteStore.open(path)
    (value,) = store.load([key])
    assert value is not None
    assert store.commit([store_records.step(key, value)._replace(replacement=b"?")]) == [Applied()]
    store.close()
    checked = backups.backup(path, tmp_path / "backup.db", store_records.problem)
    assert checked == (100, [], ["000007: it is too short"])


def test_backup_over_anything_is_refused(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "backup.db").write_text("another")
    with pytest.raises(StoreError, match="exists already"):
        backups.backup(path, tmp_path / "backup.db", store_records.problem)
    assert (tmp_path / "backup.db").read_text() == "another"


def test_disk_without_room_for_the_backup_is_named(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    with small_disk.mounted(small, 16 << 10):
        with pytest.raises(StoreError, match="has no room for the copy"):
            backups.backup(path, small / "backup.db", store_records.problem)
        assert list(small.iterdir()) == []


def test_disk_without_room_for_the_restored_store_leaves_the_old_one(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    backups.backup(path, tmp_path / "backup.db", store_records.problem)
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk.mounted(disk, 1 << 20):
        backups.restore(disk / "store", tmp_path / "backup.db", store_records.problem)
        before = versions(disk / "store")
        small_disk.fill(disk / "logs")
        with pytest.raises(StoreError, match="room"):
            backups.restore(disk / "store", tmp_path / "backup.db", store_records.problem)
        (disk / "logs").unlink()
        assert versions(disk / "store") == before

"""A full disk and a full map: new records are refused, all else goes on."""

from __future__ import annotations

import pathlib
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from server import store_records
from server.store_process import StoreProcess
from tickcell.server.store import (
    Change,
    LmdbStore,
    StoreFullError,
    StoreNoSpaceError,
    backup,
    entries,
    recovery,
    soundness,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DISK_BYTES = 8 << 20


class Full(NamedTuple):
    """A store that takes no more new records, and what was committed to it."""

    store: LmdbStore
    directory: pathlib.Path
    committed: dict[bytes, bytes]


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tickcell-test", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount a tmpfs")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.fixture(params=["disk", "map"])
def full(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Full]:
    if request.param == "disk":
        directory = request.getfixturevalue("small_disk") / "store"
        store = LmdbStore.open(directory, check=store_records.version)
    else:
        directory = tmp_path / "store"
        store = LmdbStore.open(directory, check=store_records.version, map_size=DISK_BYTES)
    committed: dict[bytes, bytes] = {}
    with pytest.raises(StoreFullError):
        _add_without_end(store, committed)
    yield Full(store, directory, committed)
    store.close()


def _add(store: LmdbStore, committed: dict[bytes, bytes], count: int) -> None:
    keys = [f"{len(committed) + index:06}".encode() for index in range(count)]
    changes = [Change(key, None, store_records.encode(1)) for key in keys]
    assert all(store.commit(changes))
    committed.update((change.key, store_records.encode(1)) for change in changes)


def _add_without_end(store: LmdbStore, committed: dict[bytes, bytes]) -> None:
    while True:
        _add(store, committed, 50)


def test_refused_batch_is_refused_whole(full: Full) -> None:
    key = next(iter(full.committed))
    changes = [Change(key, full.committed[key], store_records.encode(2))]
    changes += [Change(b"new%d" % index, None, store_records.encode(1)) for index in range(50)]
    with pytest.raises(StoreFullError):
        full.store.commit(changes)
    assert dict(full.store.scan(b"", 1 << 20)) == full.committed


def test_records_there_are_go_on_changing(full: Full) -> None:
    for key, old in full.committed.items():
        assert full.store.commit([Change(key, old, store_records.encode(2))]) == [True]


def test_every_record_can_be_removed(full: Full) -> None:
    for key, old in full.committed.items():
        assert full.store.commit([Change(key, old, None)]) == [True]
    assert full.store.count() == 0


def test_records_can_be_removed_many_at_once(full: Full) -> None:
    records = list(full.committed.items())
    for start in range(0, len(records), 256):
        changes = [Change(key, old, None) for key, old in records[start : start + 256]]
        assert all(full.store.commit(changes))
    assert full.store.count() == 0


def test_new_records_are_taken_again_once_others_are_removed(full: Full) -> None:
    removed = list(full.committed.items())[:1000]
    full.store.commit([Change(key, old, None) for key, old in removed])
    changes = [Change(b"new%d" % index, None, store_records.encode(1)) for index in range(500)]
    assert all(full.store.commit(changes))


def test_full_store_is_sound(full: Full) -> None:
    with pytest.raises(StoreFullError):
        _add(full.store, full.committed, 400)
    for key, old in list(full.committed.items())[::3]:
        full.store.commit([Change(key, old, None)])
    kept = full.store.count()
    full.store.sync()
    assert soundness.examine(full.directory, store_records.version) == (kept, [])


def test_new_records_are_taken_again_once_the_disk_has_room(small_disk: pathlib.Path) -> None:
    store = LmdbStore.open(small_disk / "store", check=store_records.version)
    committed: dict[bytes, bytes] = {}
    _add(store, committed, 1)
    _fill(small_disk / "logs")
    with pytest.raises(StoreFullError):
        _add(store, committed, 5000)
    assert store.count() == 1
    (small_disk / "logs").unlink()
    _add(store, committed, 5000)
    assert dict(store.scan(b"", 1 << 20)) == committed
    store.close()


def test_disk_filled_by_others_stops_no_record_from_changing(small_disk: pathlib.Path) -> None:
    store = LmdbStore.open(small_disk / "store", check=store_records.version)
    committed: dict[bytes, bytes] = {}
    _add(store, committed, 1000)
    _fill(small_disk / "logs")
    for version in range(2, 6):
        for key, old in committed.items():
            committed[key] = store_records.encode(version)
            assert store.commit([Change(key, old, committed[key])]) == [True]
    store.close()


def test_restored_store_gets_its_room_back_at_its_start(small_disk: pathlib.Path) -> None:
    store = LmdbStore.open(small_disk / "store", check=store_records.version)
    committed: dict[bytes, bytes] = {}
    _add(store, committed, 2000)
    store.close()
    backup.backup(
        small_disk / "store",
        small_disk / "copy",
        map_size=1 << 30,
        check=store_records.version,
        boot_id=entries.boot(),
    )
    restored = LmdbStore.open(small_disk / "copy", check=store_records.version)
    _fill(small_disk / "logs")
    for key, old in committed.items():
        assert restored.commit([Change(key, old, None)]) == [True]
    restored.close()


def test_new_store_on_a_full_disk_is_refused(small_disk: pathlib.Path) -> None:
    _fill(small_disk / "logs")
    with pytest.raises(StoreNoSpaceError, match="the disk is full"):
        LmdbStore.open(small_disk / "store")


def test_killed_server_starts_again_on_a_full_disk(small_disk: pathlib.Path) -> None:
    directory = small_disk / "store"
    with StoreProcess(directory) as process:
        assert process.ask("open") == "open"
        process.ask("add 1000")
        _fill(small_disk / "logs")
        process.kill()
    with StoreProcess(directory) as process:
        assert process.ask("open") == "open"
        assert process.ask("set 000000 2") == "[True]"


def test_recovery_without_room_leaves_the_store_as_it_is(small_disk: pathlib.Path) -> None:
    directory = small_disk / "store"
    store = LmdbStore.open(directory, check=store_records.version)
    _add(store, {}, 5000)
    store.close()
    data = directory / "data.mdb"
    before = data.read_bytes()
    _fill(small_disk / "logs")
    with pytest.raises(StoreNoSpaceError, match="the store is as it was"):
        recovery.recover(directory, store_records.version)
    assert data.read_bytes() == before
    assert not (directory / "recovering").exists()


def _fill(path: pathlib.Path) -> None:
    """Writes a file until the disk has no byte left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass

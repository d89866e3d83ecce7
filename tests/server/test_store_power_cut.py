"""After a power cut: a damaged store is told from a sound one, and recovered.

A power cut loses any of the writes since the last sync. So a cut is simulated by
putting pages of an earlier file, or nothing, in the place of some of a later one's.
"""

from __future__ import annotations

import pathlib
import random
import re
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from server import store_records
from server.store_process import StoreProcess
from tickcell.server.store import (
    Change,
    LmdbStore,
    NewerSchemaError,
    StoreDamagedError,
    StoreInUseError,
    entries,
    recovery,
    soundness,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tickcell.server.store.opening import OnUnclean

PAGE = 4096
CUTS = range(16)


class Cut(NamedTuple):
    """A store after a power cut, and what was acknowledged before it."""

    directory: pathlib.Path
    acknowledged: dict[bytes, int]
    removed: set[bytes]


def _open(directory: pathlib.Path, on_unclean: OnUnclean = "refuse") -> LmdbStore:
    return LmdbStore.open(directory, check=store_records.version, on_unclean=on_unclean)


def _cut(directory: pathlib.Path, seed: int) -> Cut:
    """Runs a store, syncs it, runs on, and loses a part of what was not synced."""
    chance = random.Random(seed)
    store = _open(directory)
    keys = [b"%05d" % index for index in range(chance.choice([3, 20, 200, 1000]))]
    store.commit([Change(key, None, store_records.encode(1)) for key in keys])
    versions = dict.fromkeys(keys, 1)
    removed: set[bytes] = set()

    def run(count: int) -> None:
        for _ in range(count):
            key = chance.choice(sorted(versions))
            old = store_records.encode(versions[key])
            if chance.random() < 0.02 and len(versions) > 2:
                assert store.commit([Change(key, old, None)]) == [True]
                versions.pop(key)
                removed.add(key)
            else:
                versions[key] += 1
                assert store.commit([Change(key, old, store_records.encode(versions[key]))]) == [
                    True
                ]

    run(300)
    store.sync()
    data = directory / "data.mdb"
    synced = data.read_bytes()
    run(chance.choice([10, 100, 400]))
    written = bytearray(data.read_bytes())
    store.close()
    share = chance.choice([0.05, 0.3, 0.7])
    for start in range(0, len(written), PAGE):
        if chance.random() < share:
            written[start : start + PAGE] = synced[start : start + PAGE].ljust(PAGE, b"\0")
    data.write_bytes(written)
    return Cut(directory, versions, removed)


def test_every_cut_leaves_a_store_that_is_known_as_damaged_or_that_lmdb_can_read(
    tmp_path: pathlib.Path,
) -> None:
    sound = []
    for seed in CUTS:
        cut = _cut(tmp_path / str(seed), seed)
        if not soundness.examine(cut.directory, store_records.version).problems:
            sound.append(str(cut.directory))
    # Reads and replaces every record in a process of its own, since LMDB would abort it.
    program = """
import lmdb, sys
for directory in sys.argv[1:]:
    with lmdb.open(directory, map_size=1 << 30) as environment:
        with environment.begin(write=True) as transaction:
            for key, value in list(transaction.cursor()):
                transaction.put(key, value + value)
"""
    subprocess.run([sys.executable, "-c", program, *sound], check=True)
    assert 0 < len(sound) < len(CUTS)


def test_every_recovery_gives_a_sound_store_of_records_that_were_once_committed(
    tmp_path: pathlib.Path,
) -> None:
    for seed in CUTS:
        cut = _cut(tmp_path / str(seed), seed)
        recovered = recovery.recover(cut.directory, store_records.version)
        examined = soundness.examine(cut.directory, store_records.version)
        assert examined == (recovered.record_count, []), f"cut {seed}"
        for key, version in _versions(cut.directory).items():
            assert version <= cut.acknowledged.get(key, version), f"cut {seed}, {key!r}"
            assert key in cut.acknowledged or key in cut.removed


def test_recovery_finds_most_records(tmp_path: pathlib.Path) -> None:
    acknowledged = kept = 0
    for seed in CUTS:
        cut = _cut(tmp_path / str(seed), seed)
        recovery.recover(cut.directory, store_records.version)
        acknowledged += len(cut.acknowledged)
        kept += len(cut.acknowledged.keys() & _versions(cut.directory).keys())
    assert kept / acknowledged > 0.8, f"kept {kept} of {acknowledged}"


def test_sound_store_of_another_boot_is_served_and_said_to_be_sound(tmp_path: pathlib.Path) -> None:
    _kill_in_another_boot(tmp_path)
    store = _open(tmp_path)
    assert store.note == (
        "the store was not closed before the machine stopped; its 300 records are all sound"
    )
    store.close()


def test_sound_store_is_examined_once(tmp_path: pathlib.Path) -> None:
    _kill_in_another_boot(tmp_path)
    _open(tmp_path).close()
    store = _open(tmp_path)
    assert store.note is None
    store.close()


def test_store_that_was_closed_needs_no_examination(tmp_path: pathlib.Path) -> None:
    with StoreProcess(tmp_path, "--boot-id", "before") as process:
        process.ask("open")
        process.ask("close")
    store = _open(tmp_path)
    assert store.note is None
    store.close()


def test_entry_that_the_cut_damaged_counts_as_unclean(tmp_path: pathlib.Path) -> None:
    _kill_in_another_boot(tmp_path)
    (entry,) = (tmp_path / "servers").iterdir()
    entry.write_bytes(bytes(100))
    store = _open(tmp_path)
    assert store.note is not None
    store.close()


def test_damaged_store_is_refused_with_the_way_out_and_left_alone(tmp_path: pathlib.Path) -> None:
    _kill_in_another_boot(tmp_path)
    _zero(tmp_path, pages=[7, 9])
    before = (tmp_path / "data.mdb").read_bytes()
    for _ in range(2):
        with pytest.raises(StoreDamagedError, match=re.escape(f"recover --store {tmp_path}")):
            _open(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() == before


def test_damaged_store_is_recovered_at_start_where_that_is_wanted(tmp_path: pathlib.Path) -> None:
    _kill_in_another_boot(tmp_path)
    _zero(tmp_path, pages=[7, 9])
    store = _open(tmp_path, on_unclean="recover")
    assert store.note is not None
    assert "of 300 records" in store.note
    assert 0 < store.count() < 300
    store.close()


def test_recovery_keeps_the_damaged_file(tmp_path: pathlib.Path) -> None:
    _make(tmp_path)
    _zero(tmp_path, pages=[7, 9])
    before = (tmp_path / "data.mdb").read_bytes()
    recovered = recovery.recover(tmp_path, store_records.version)
    assert recovered.damaged_path.parent == tmp_path
    assert recovered.damaged_path.read_bytes() == before


def test_recovery_needs_no_meta_page(tmp_path: pathlib.Path) -> None:
    _make(tmp_path)
    _zero(tmp_path, pages=[0, 1])
    assert recovery.recover(tmp_path, store_records.version).record_count == 300


def test_recovery_needs_no_branch_page(tmp_path: pathlib.Path) -> None:
    _make(tmp_path)
    data = (tmp_path / "data.mdb").read_bytes()
    branches = [page for page in range(2, len(data) // PAGE) if data[page * PAGE + 10] == 1]
    _zero(tmp_path, pages=branches)
    assert branches
    assert recovery.recover(tmp_path, store_records.version).record_count == 300


def test_damaged_list_of_free_pages_is_damage_too(tmp_path: pathlib.Path) -> None:
    _make(tmp_path)
    data = (tmp_path / "data.mdb").read_bytes()
    # In a meta page: the root of the tree of free pages, and the transaction's id.
    metas = [struct.unpack_from("=Q56xQ", data, page * PAGE + 80) for page in (0, 1)]
    root, _ = max(metas, key=lambda meta: meta[1])
    _zero(tmp_path, pages=[root])
    assert soundness.examine(tmp_path, store_records.version).problems
    assert recovery.recover(tmp_path, store_records.version).record_count == 300
    assert soundness.examine(tmp_path, store_records.version) == (300, [])


def test_page_that_holds_another_ones_records_is_lost_and_not_read(
    tmp_path: pathlib.Path,
) -> None:
    store = _open(tmp_path)
    record = store_records.encode(1)
    store.commit([Change(b"%05d" % index, None, record) for index in range(300)])
    store.close()
    data = bytearray((tmp_path / "data.mdb").read_bytes())
    # Both in one file: the pages of keys 100 and 200, found by a key's own bytes.
    one, other = (data.index(b"%05d" % key + record) // PAGE * PAGE for key in (100, 200))
    data[other + 8 : other + PAGE] = data[one + 8 : one + PAGE]
    (tmp_path / "data.mdb").write_bytes(data)
    recovered = recovery.recover(tmp_path, store_records.version)
    assert recovered.lost_ranges == [f"page {other // PAGE} has keys outside its range"]
    assert b"00100" in _versions(tmp_path)


def test_record_that_does_not_check_out_is_lost_by_name_and_no_other(
    tmp_path: pathlib.Path,
) -> None:
    store = _open(tmp_path)
    changes = [Change(b"%05d" % index, None, store_records.encode(index)) for index in range(300)]
    store.commit(changes)
    store.close()
    data = bytearray((tmp_path / "data.mdb").read_bytes())
    data[data.index(store_records.encode(250)) + 100] ^= 1
    (tmp_path / "data.mdb").write_bytes(data)
    (problem,) = soundness.examine(tmp_path, store_records.version).problems
    assert problem == "the record '00250' does not check out"
    recovered = recovery.recover(tmp_path, store_records.version)
    assert recovered.lost_keys == [b"00250"]
    assert _versions(tmp_path) == {b"%05d" % index: index for index in range(300) if index != 250}


def test_records_on_pages_of_their_own_are_recovered(tmp_path: pathlib.Path) -> None:
    store = _open(tmp_path)
    large = store_records.encode(3, size=50_000)
    store.commit([Change(b"%05d" % index, None, large) for index in range(20)])
    store.close()
    _zero(tmp_path, pages=[0, 1])
    recovery.recover(tmp_path, store_records.version)
    store = _open(tmp_path)
    assert store.scan(b"", 100) == [(b"%05d" % index, large) for index in range(20)]
    store.close()


def test_recovery_does_not_bring_back_what_was_removed(tmp_path: pathlib.Path) -> None:
    store = _open(tmp_path)
    keys = [b"%05d" % index for index in range(300)]
    record = store_records.encode(1)
    store.commit([Change(key, None, record) for key in keys])
    for key in keys[:3]:
        store.commit([Change(key, record, None)])
    store.close()
    # The last record's page; what was removed lay on the first.
    data = bytearray((tmp_path / "data.mdb").read_bytes())
    data[data.rindex(record) + 100] ^= 1
    (tmp_path / "data.mdb").write_bytes(data)
    recovery.recover(tmp_path, store_records.version)
    assert not _versions(tmp_path).keys() & set(keys[:3])


def test_newer_store_is_not_taken_for_a_damaged_one(tmp_path: pathlib.Path) -> None:
    _kill_in_another_boot(tmp_path)
    program = """
import lmdb, sys
with lmdb.open(sys.argv[1], map_size=1 << 30) as environment:
    with environment.begin(write=True) as transaction:
        transaction.put(b"\\xffschema", b"2")
        transaction.put(b"0", b"a record that this tickcell cannot read")
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    with pytest.raises(NewerSchemaError, match="schema 2"):
        _open(tmp_path, on_unclean="recover")
    with pytest.raises(NewerSchemaError):
        recovery.recover_stopped(tmp_path, store_records.version, entries.boot())


def test_recovery_refuses_while_a_server_is_live(tmp_path: pathlib.Path) -> None:
    with StoreProcess(tmp_path) as process:
        process.ask("open")
        with pytest.raises(StoreInUseError, match=f"pid {process.pid}"):
            recovery.recover_stopped(tmp_path, store_records.version, entries.boot())


def test_sound_store_is_left_as_it_is(tmp_path: pathlib.Path) -> None:
    _kill_in_another_boot(tmp_path)
    before = (tmp_path / "data.mdb").read_bytes()
    outcome = recovery.recover_stopped(tmp_path, store_records.version, entries.boot())
    assert outcome == soundness.Soundness(300, [])
    assert (tmp_path / "data.mdb").read_bytes() == before


def _make(directory: pathlib.Path) -> None:
    with StoreProcess(directory, "--boot-id", "before") as process:
        assert process.ask("open") == "open"
        assert process.ask("add 300") == "300"
        assert process.ask("close") == "closed"


def _kill_in_another_boot(directory: pathlib.Path) -> None:
    with StoreProcess(directory, "--boot-id", "before") as process:
        assert process.ask("open") == "open"
        assert process.ask("add 300") == "300"
        process.kill()


def _zero(directory: pathlib.Path, pages: Iterable[int]) -> None:
    with (directory / "data.mdb").open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(bytes(PAGE))


def _versions(directory: pathlib.Path) -> dict[bytes, int]:
    store = _open(directory)
    found = {key: store_records.version(record) for key, record in store.scan(b"", 1 << 20)}
    store.close()
    return found

"""What a store sees to before it opens, and what it refuses in one sentence."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from server import store_records
from server.store_process import StoreProcess
from tickcell.server.store import (
    Change,
    LmdbStore,
    NetworkFilesystemError,
    NewerSchemaError,
    NotAStoreError,
    OtherDurabilityError,
    StoreDamagedError,
    StoreInUseError,
    StoreStartError,
    entries,
    premises,
)

# Of a machine with one of each; see proc_pid_mountinfo(5).
MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 22 0:40 / /srv/team rw,relatime shared:7 - nfs4 nas:/team rw,vers=4.2
32 31 254:1 / /srv/team/local rw - xfs /dev/vdb rw
33 22 0:41 / /mnt/my\\040disk rw - cifs //nas/disk rw
34 22 0:42 / /host rw master:3 propagate_from:2 - virtiofs host rw
35 22 0:43 / /twice rw - nfs nas:/twice rw
36 35 0:44 / /twice rw - tmpfs none rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/lib/tickcell", "ext4"),
        ("/srv/team/tickcell", "nfs4"),
        ("/srv/team/local/tickcell", "xfs"),
        ("/srv/teammate", "ext4"),
        ("/mnt/my disk/tickcell", "cifs"),
        ("/host", "virtiofs"),
        ("/twice/tickcell", "tmpfs"),
    ],
)
def test_file_system_is_that_of_the_innermost_mount(path: str, expected: str) -> None:
    assert premises.type_of_filesystem(pathlib.Path(path), MOUNTS) == expected


def test_network_file_system_is_refused_with_the_way_out() -> None:
    with pytest.raises(NetworkFilesystemError, match=r"nfs4.*--allow-network-filesystem"):
        premises.refuse_network_filesystem(pathlib.Path("/srv/team/tickcell"), MOUNTS)


def test_local_file_system_is_not_refused(tmp_path: pathlib.Path) -> None:
    premises.prepare(tmp_path / "new", allow_network_filesystem=False)
    assert (tmp_path / "new").is_dir()


def test_directory_of_something_else_is_refused_and_left_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "thesis.txt").write_text("of years")
    with pytest.raises(NotAStoreError, match="thesis"):
        LmdbStore.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_file_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotAStoreError, match="is not a directory"):
        LmdbStore.open(tmp_path / "file")
    with pytest.raises(NotAStoreError, match="is not a directory"):
        LmdbStore.open(tmp_path / "file" / "below")


def test_data_file_of_another_program_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not LMDB's" * 1000)
    with pytest.raises(StoreStartError):
        LmdbStore.open(tmp_path)


def test_lmdb_file_of_another_program_is_refused(tmp_path: pathlib.Path) -> None:
    _put(tmp_path, "theirs", "1")
    with pytest.raises(NotAStoreError, match="tickcell did not write"):
        LmdbStore.open(tmp_path)


def test_start_that_was_cut_short_is_made_good(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data.mdb").touch()
    (tmp_path / "guard").touch()
    (tmp_path / "servers").mkdir()
    store = LmdbStore.open(tmp_path)
    assert store.commit([Change(b"a", None, b"1")]) == [True]
    store.close()


def test_record_written_twice_in_one_commit_is_no_damage(tmp_path: pathlib.Path) -> None:
    large, small = store_records.encode(1, 20_000), store_records.encode(2)
    store = LmdbStore.open(tmp_path, check=store_records.version)
    changes = [Change(b"a", None, large), Change(b"a", large, small)]
    assert store.commit(changes) == [True, True]
    store.close()

    again = LmdbStore.open(tmp_path, check=store_records.version)

    assert again.load([b"a"]) == [small]
    again.close()


def test_newer_schema_is_refused(tmp_path: pathlib.Path) -> None:
    LmdbStore.open(tmp_path).close()
    _put(tmp_path, "\udcffschema", "2")
    with pytest.raises(NewerSchemaError, match=r"schema 2.*up to 1.*upgrade"):
        LmdbStore.open(tmp_path)


def test_start_that_is_refused_late_leaves_no_entry(tmp_path: pathlib.Path) -> None:
    _put(tmp_path, "theirs", "1")
    # So large that it is not examined first.
    os.truncate(tmp_path / "data.mdb", 1 << 30)
    with pytest.raises(NotAStoreError):
        LmdbStore.open(tmp_path)
    assert list((tmp_path / "servers").iterdir()) == []


def test_truncated_store_is_refused_as_damaged(tmp_path: pathlib.Path) -> None:
    store = LmdbStore.open(tmp_path)
    record = store_records.encode(1)
    store.commit([Change(b"%d" % index, None, record) for index in range(100)])
    store.close()
    with (tmp_path / "data.mdb").open("r+b") as file:
        file.truncate(8192)
    with pytest.raises(StoreDamagedError, match="recover"):
        LmdbStore.open(tmp_path, check=store_records.version)


def test_lock_file_has_its_place_on_the_disk(tmp_path: pathlib.Path) -> None:
    # LMDB writes to it as memory: a sparse one would be a SIGBUS once the disk is full.
    LmdbStore.open(tmp_path).close()
    lock = (tmp_path / "lock.mdb").stat()
    assert lock.st_blocks * 512 >= lock.st_size


def test_store_is_the_users_own(tmp_path: pathlib.Path) -> None:
    LmdbStore.open(tmp_path / "store").close()
    paths = [tmp_path / "store", *(tmp_path / "store").rglob("*")]
    assert [path for path in paths if path.stat().st_mode & 0o077] == []


def test_store_of_another_user_is_refused(tmp_path: pathlib.Path) -> None:
    if os.geteuid():
        pytest.skip("acting as another user needs root")
    LmdbStore.open(tmp_path / "store").close()
    for parent in [tmp_path, *tmp_path.parents][:3]:
        parent.chmod(0o755)
    prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    if subprocess.run([*prefix, sys.executable, "-c", "import lmdb"], check=False).returncode:
        pytest.skip("another user cannot run this Python")
    with StoreProcess(tmp_path / "store", prefix=prefix) as process:
        assert process.ask("open").startswith("StorePermissionError: ")
    with StoreProcess(tmp_path / "store" / "below", prefix=prefix) as process:
        assert process.ask("open").startswith("StorePermissionError: ")


def test_second_opening_in_one_process_is_refused_and_harms_nothing(tmp_path: pathlib.Path) -> None:
    store = LmdbStore.open(tmp_path)
    with pytest.raises(StoreInUseError, match="this process"):
        LmdbStore.open(tmp_path)
    assert store.commit([Change(b"a", None, b"1")]) == [True]
    store.close()


def test_server_with_another_durability_is_refused_while_one_is_live(
    tmp_path: pathlib.Path,
) -> None:
    with StoreProcess(tmp_path) as first:
        first.ask("open")
        with pytest.raises(OtherDurabilityError, match="process-crash, got power-loss"):
            LmdbStore.open(tmp_path, durability="power-loss")
        first.ask("close")
    LmdbStore.open(tmp_path, durability="power-loss").close()


def test_servers_that_start_at_once_all_serve(tmp_path: pathlib.Path) -> None:
    with (
        StoreProcess(tmp_path) as one,
        StoreProcess(tmp_path) as two,
        StoreProcess(tmp_path) as three,
    ):
        for process in (one, two, three):
            process.tell("open")
        assert [process.answer() for process in (one, two, three)] == ["open"] * 3
        one.ask("set 000000 5")
        assert [process.ask("get 000000") for process in (two, three)] == ["5", "5"]


def test_start_waits_while_another_process_opens_or_recovers_the_store(
    tmp_path: pathlib.Path,
) -> None:
    with StoreProcess(tmp_path) as process:
        with entries.guard(tmp_path):
            process.tell("open")
            assert not process.has_answered(within_s=0.5)
        assert process.answer() == "open"


def test_of_servers_that_start_at_once_after_a_power_cut_the_first_examines(
    tmp_path: pathlib.Path,
) -> None:
    with StoreProcess(tmp_path, "--boot-id", "before") as process:
        process.ask("open")
        process.ask("add 300")
        process.kill()
    with (
        StoreProcess(tmp_path) as one,
        StoreProcess(tmp_path) as two,
        StoreProcess(tmp_path) as three,
    ):
        for process in (one, two, three):
            process.tell("open")
        assert [process.answer() for process in (one, two, three)] == ["open"] * 3
        notes = sorted(process.ask("note") for process in (one, two, three))
        assert notes[:2] == ["None", "None"]
        assert "300 records are all sound" in notes[2]


def test_entry_is_gone_after_close_and_after_the_next_start_of_a_killed_one(
    tmp_path: pathlib.Path,
) -> None:
    with StoreProcess(tmp_path) as killed, StoreProcess(tmp_path) as closed:
        killed.ask("open")
        closed.ask("open")
        assert len(list((tmp_path / "servers").iterdir())) == 2
        killed.kill()
        assert closed.ask("close") == "closed"
    with StoreProcess(tmp_path) as last:
        last.ask("open")
        assert len(list((tmp_path / "servers").iterdir())) == 1
        last.ask("close")
    assert not list((tmp_path / "servers").iterdir())


def test_server_in_another_pid_namespace_is_refused_while_one_is_live(
    tmp_path: pathlib.Path,
) -> None:
    prefix = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("another PID namespace needs the right to make one")
    with StoreProcess(tmp_path) as ours, StoreProcess(tmp_path, prefix=prefix) as theirs:
        assert ours.ask("open") == "open"
        assert theirs.ask("open").startswith("OtherPidNamespaceError: ")
        assert ours.ask("set 000000 1") == "[True]"
        ours.ask("close")
        assert theirs.ask("open") == "open"
        assert theirs.ask("get 000000") == "1"


def _put(directory: pathlib.Path, key: str, value: str) -> None:
    """Writes to an LMDB file as another program might."""
    program = """
import lmdb, os, sys
directory, key, value = map(os.fsencode, sys.argv[1:])
with lmdb.open(directory, map_size=1 << 30) as environment:
    with environment.begin(write=True) as transaction:
        transaction.put(key, value)
"""
    subprocess.run([sys.executable, "-c", program, str(directory), key, value], check=True)

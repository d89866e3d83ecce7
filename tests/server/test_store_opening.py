"""What a store sees to before it opens, and what it refuses in one sentence."""

from __future__ import annotations

import os
import pathlib
import sqlite3
import subprocess
import sys

import apsw
import pytest

from server import store_records
from server.store_process import StoreProcess
from tickcell.server.store import (
    EmbeddedStore,
    MemoryStore,
    NetworkFilesystemError,
    NewerSchemaError,
    NotAStoreError,
    OtherDurabilityError,
    SqliteStore,
    StoreInUseError,
    directory,
    filesystems,
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
    assert filesystems.type_of_filesystem(pathlib.Path(path), MOUNTS) == expected


def test_network_file_system_is_refused_with_the_way_out() -> None:
    with pytest.raises(NetworkFilesystemError, match=r"nfs4.*--allow-network-filesystem"):
        filesystems.refuse_network_filesystem(pathlib.Path("/srv/team/tickcell"), MOUNTS)


def test_local_file_system_is_not_refused(tmp_path: pathlib.Path) -> None:
    directory.prepare(tmp_path / "new", allow_network_filesystem=False)
    assert (tmp_path / "new").is_dir()


@pytest.mark.parametrize("name", ["thesis.txt", "store.db-wal", "reserve"])
def test_directory_of_something_else_is_refused_and_left_alone(
    tmp_path: pathlib.Path, name: str
) -> None:
    (tmp_path / name).write_text("of years")
    with pytest.raises(NotAStoreError, match=name):
        SqliteStore.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_file_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    path.write_text("not a directory")
    for place in (path, path / "below"):
        with pytest.raises(NotAStoreError, match="is not a directory"):
            SqliteStore.open(place)


def test_empty_database_is_not_taken_for_a_new_store(tmp_path: pathlib.Path) -> None:
    (tmp_path / "store.db").touch()
    with pytest.raises(NotAStoreError, match=r"store\.db"):
        SqliteStore.open(tmp_path)
    assert (tmp_path / "store.db").stat().st_size == 0


def test_database_of_another_program_is_refused(tmp_path: pathlib.Path) -> None:
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("CREATE TABLE record (value)")
    connection.close()
    before = (tmp_path / "store.db").read_bytes()
    with pytest.raises(NotAStoreError, match="tickcell did not write"):
        SqliteStore.open(tmp_path)
    assert (tmp_path / "store.db").read_bytes() == before


@pytest.mark.parametrize("left", [["lock", "new.db"], ["lock", "store.db"], ["lost+found", "lock"]])
def test_start_that_was_cut_short_is_made_good(tmp_path: pathlib.Path, left: list[str]) -> None:
    SqliteStore.open(tmp_path / "whole").close()
    half = tmp_path / "half"
    half.mkdir()
    for name in left:
        if name == "store.db":
            (half / name).write_bytes((tmp_path / "whole" / name).read_bytes())
        else:
            (half / name).write_bytes(b"half" if name == "new.db" else b"")
    SqliteStore.open(half).close()
    store = SqliteStore.open(half)
    assert (half / "tickcell-store").read_text().strip() == store.id
    assert not (half / "new.db").exists()
    store.close()


def test_newer_schema_is_refused(tmp_path: pathlib.Path) -> None:
    SqliteStore.open(tmp_path).close()
    connection = apsw.Connection(str(tmp_path / "store.db"))
    connection.pragma("user_version", 2)
    connection.close()
    with pytest.raises(NewerSchemaError, match=r"has schema 2, this tickcell reads up to 1"):
        SqliteStore.open(tmp_path)


def test_start_that_is_refused_leaves_the_store_free(tmp_path: pathlib.Path) -> None:
    SqliteStore.open(tmp_path).close()
    with pytest.raises(OtherDurabilityError):
        SqliteStore.open(tmp_path, durability="power-loss")
    with directory.guard(tmp_path):
        assert directory.users(tmp_path) == []
    SqliteStore.open(tmp_path, durability="process-crash").close()


def test_store_is_the_users_own(tmp_path: pathlib.Path) -> None:
    SqliteStore.open(tmp_path / "store").close()
    store = SqliteStore.open(tmp_path / "store")
    paths = [tmp_path / "store", *(tmp_path / "store").rglob("*")]
    assert {path.name for path in paths} >= {"store.db", "store.db-wal", "store.db-shm"}
    assert [path for path in paths if path.stat().st_mode & 0o077] == []
    store.close()


def test_store_of_another_user_is_refused(tmp_path: pathlib.Path) -> None:
    if os.geteuid():
        pytest.skip("acting as another user needs root")
    SqliteStore.open(tmp_path / "store").close()
    for parent in [tmp_path, *tmp_path.parents][:3]:
        parent.chmod(0o755)
    prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    if subprocess.run([*prefix, sys.executable, "-c", "import apsw"], check=False).returncode:
        pytest.skip("another user cannot run this Python")
    with StoreProcess(tmp_path / "store", prefix=prefix) as process:
        assert process.ask("open").startswith("StorePermissionError: ")
    with StoreProcess(tmp_path / "store" / "below", prefix=prefix) as process:
        assert process.ask("open").startswith("StorePermissionError: ")


def test_second_opening_in_one_process_is_refused_and_harms_nothing(tmp_path: pathlib.Path) -> None:
    store = SqliteStore.open(tmp_path)
    with pytest.raises(StoreInUseError, match="this process has it open already"):
        SqliteStore.open(tmp_path)
    key = store_records.key(0)
    store.commit([store_records.step(key, None)])
    store.close()
    again = SqliteStore.open(tmp_path)
    assert again.load([key]) != [None]
    again.close()


@pytest.mark.parametrize("kept", ["process-crash", "power-loss"])
def test_durability_is_the_stores_and_not_the_next_starts(
    tmp_path: pathlib.Path, kept: str
) -> None:
    other = {"process-crash": "power-loss", "power-loss": "process-crash"}[kept]
    with StoreProcess(tmp_path) as first, StoreProcess(tmp_path) as second:
        assert first.ask(f"open {kept}") == "open"
        assert second.ask(f"open {other}").startswith("OtherDurabilityError: ")
        first.ask("close")
        answer = second.ask(f"open {other}")
        assert f"has durability {kept}, got {other}" in answer
        assert f"tickcell store durability --store {tmp_path} {other}" in answer
        assert second.ask("open") == "open"


def test_every_store_has_an_id_of_its_own(tmp_path: pathlib.Path) -> None:
    stores: list[EmbeddedStore] = [MemoryStore(), MemoryStore()]
    stores += [SqliteStore.open(tmp_path / name) for name in "ab"]
    ids = [store.id for store in stores]
    assert len(set(ids)) == 4
    assert all(len(bytes.fromhex(store_id)) == 16 for store_id in ids)
    for store in stores:
        store.close()


def test_server_in_another_pid_namespace_shares_the_store(tmp_path: pathlib.Path) -> None:
    prefix = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("another PID namespace needs the right to make one")
    with StoreProcess(tmp_path) as outer, StoreProcess(tmp_path, prefix=prefix) as inner:
        assert outer.ask("open") == inner.ask("open") == "open"
        assert inner.ask("set 000000 5") == "Applied"
        assert outer.ask("get 000000") == "5"
        outer.tell("increment 000000 1000")
        inner.tell("increment 000000 1000")
        assert outer.answer() == inner.answer() == "done"
        assert outer.ask("get 000000") == inner.ask("get 000000") == "2005"

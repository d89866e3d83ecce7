"""The commands `tickcell store`: what they print, and how they fail."""

from __future__ import annotations

import itertools
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from server import store_records
from server.store_process import StoreProcess
from tickcell.server import record
from tickcell.server.store import (
    Change,
    LmdbStore,
    backup,
    commands,
    entries,
    soundness,
    versions,
)

if TYPE_CHECKING:
    import pathlib


def _run(*arguments: object) -> Result:
    result = CliRunner().invoke(commands.store, [str(argument) for argument in arguments])
    # A failure is one sentence and an exit code, never a traceback.
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def _session(step: int, *, now_ns: int, delete_ns: int = 0) -> bytes:
    life = record.Life(
        generation=7,
        create_ns=1,
        delete_ns=delete_ns,
        idle_ttl_ns=0,
        series_count=1,
        window=4,
        sensor_count=10,
        state_size=72,
        output_count=1,
        model="drive",
        model_version="1",
        fingerprint="f" * 64,
        request_id="",
        reset_request_id="",
        labels={},
    )
    return record.encode(record.Record(life, 0, step, now_ns, 0, bytes(8), bytes(4 * 72), b"", b""))


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    """A store of 100 sessions that no process has open."""
    store = LmdbStore.open(tmp_path / "store")
    keys = [record.key(f"session-{index:03}") for index in range(100)]
    store.commit([Change(key, None, _session(5, now_ns=9)) for key in keys])
    store.close()
    return tmp_path / "store"


def _damage(directory: pathlib.Path) -> None:
    data = directory / "data.mdb"
    content = bytearray(data.read_bytes())
    content[7 * 4096 : 9 * 4096] = bytes(2 * 4096)
    data.write_bytes(content)


def test_inspect_shows_what_a_store_holds(directory: pathlib.Path) -> None:
    result = _run("inspect", "--store", directory)
    assert result.exit_code == 0
    assert re.search(r"^schema +1$", result.output, re.MULTILINE)
    assert re.search(r"^records +100 \(all sound\)$", result.output, re.MULTILINE)
    assert re.search(r"^opened +by no process$", result.output, re.MULTILINE)


def test_inspect_changes_nothing(directory: pathlib.Path) -> None:
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    _run("inspect", "--store", directory)
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_inspect_names_who_has_the_store_open(tmp_path: pathlib.Path) -> None:
    with StoreProcess(tmp_path) as live, StoreProcess(tmp_path) as killed:
        for process in (live, killed):
            assert process.ask("open") == "open"
        killed.kill()
        result = _run("inspect", "--store", tmp_path)
        assert result.exit_code == 0
        assert f"live: server, pid {live.pid}, durability process-crash" in result.output
        assert f"killed: server, pid {killed.pid}" in result.output


def test_inspect_of_a_damaged_store_fails_with_the_way_out(directory: pathlib.Path) -> None:
    _damage(directory)
    result = _run("inspect", "--store", directory)
    assert result.exit_code == 1
    assert "problem  " in result.output
    assert f"tickcell store recover --store {directory}" in result.output


def test_recover_reports_what_it_kept(directory: pathlib.Path) -> None:
    _damage(directory)
    result = _run("recover", "--store", directory)
    assert result.exit_code == 0
    (kept,) = re.findall(r"kept (\d+) of 100 records; 2 damaged pages;", result.output)
    examined = soundness.examine(directory, versions.version)
    assert examined == (int(kept), [])


def test_recover_leaves_a_sound_store_alone(directory: pathlib.Path) -> None:
    result = _run("recover", "--store", directory)
    assert result.exit_code == 0
    assert "its 100 records are all sound" in result.output


def test_recover_refuses_while_a_server_is_live(tmp_path: pathlib.Path) -> None:
    with StoreProcess(tmp_path) as live:
        assert live.ask("open") == "open"
        result = _run("recover", "--store", tmp_path)
    assert result.exit_code == 1
    assert "stop every server" in result.output


def test_backup_is_a_store_with_the_same_records(
    directory: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    result = _run("backup", "--store", directory, tmp_path / "copies" / "monday")
    assert result.exit_code == 0
    assert "100 records" in result.output
    copy = LmdbStore.open(tmp_path / "copies" / "monday")
    original = LmdbStore.open(directory)
    assert copy.scan(b"", 1000) == original.scan(b"", 1000)
    copy.close()
    original.close()


def test_backup_beside_a_live_writer_is_of_one_moment(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "store"
    with StoreProcess(directory) as writer:
        assert writer.ask("open") == "open"
        writer.ask("add 500")
        writer.ask("tick")
        for number in range(5):
            destination = tmp_path / f"copy-{number}"
            backup.backup(
                directory,
                destination,
                map_size=1 << 30,
                check=store_records.version,
                boot_id=entries.boot(),
            )
            copy = LmdbStore.open(destination, check=store_records.version)
            found = [store_records.version(value) for _, value in copy.scan(b"", 1000)]
            copy.close()
            # The writer goes through the records in order: those of this round, then
            # those of the last.
            assert len(found) == 500
            assert found == sorted(found, reverse=True)
            assert found[0] - found[-1] <= 1


def test_backup_over_anything_is_refused(directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    result = _run("backup", "--store", directory, tmp_path / "full")
    assert result.exit_code == 1
    assert "exists already" in result.output
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_backup_of_a_damaged_store_is_refused_and_leaves_nothing(
    directory: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    _damage(directory)
    result = _run("backup", "--store", directory, tmp_path / "copy")
    assert result.exit_code == 1
    assert "is damaged" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


@pytest.mark.parametrize("command", [["inspect"], ["recover"], ["backup", "copy"]])
def test_directory_that_is_no_store_is_refused(command: list[str], tmp_path: pathlib.Path) -> None:
    result = _run(*command, "--store", tmp_path / "none")
    assert result.exit_code == 1
    assert "is not a store's directory" in result.output
    assert not (tmp_path / "none").exists()


def test_store_is_named_by_the_environment_or_lies_in_the_state_home(
    directory: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    home = tmp_path / "state"
    home.mkdir()
    (home / "tickcell").symlink_to(directory)
    for variable, value in {"TICKCELL_STORE": directory, "XDG_STATE_HOME": home}.items():
        result = CliRunner().invoke(commands.store, ["inspect"], env={variable: str(value)})
        assert "100 (all sound)" in result.output, variable


def test_disk_without_room_for_the_backup_is_named(
    directory: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tickcell-test", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount a tmpfs")
    result = _run("backup", "--store", directory, small / "copy")
    left = list(small.iterdir())
    subprocess.run(["umount", "--lazy", str(small)], check=True)
    assert result.exit_code == 1
    assert "has no room for the backup" in result.output
    assert left == []


def test_later_version_of_a_session_is_the_one_renewed_last() -> None:
    by_age = [
        _session(5, now_ns=100),
        _session(6, now_ns=100),
        _session(0, now_ns=200),
        _session(0, now_ns=200, delete_ns=300),
    ]
    ranks = [versions.version(encoded) for encoded in by_age]
    assert all(earlier < later for earlier, later in itertools.pairwise(ranks))

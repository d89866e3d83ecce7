"""The commands `tickcell store`: what they print, and how they fail."""

from __future__ import annotations

import contextlib
import pathlib
import re
import subprocess
import sys

import apsw
import pytest
from click.testing import CliRunner, Result

from server import store_records
from server.store_process import StoreProcess
from tickcell.server.store import Change, Pin, SqliteStore, checking, commands


def _run(*arguments: object) -> Result:
    result = CliRunner().invoke(commands.store, [str(argument) for argument in arguments])
    # A failure is one sentence and an exit code, never a traceback.
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def _line(result: Result, name: str) -> str:
    (found,) = re.findall(rf"^{name} +(.*)$", result.output, re.MULTILINE)
    return str(found)


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    """A store without a session that no process has open."""
    SqliteStore.open(tmp_path / "store").close()
    return tmp_path / "store"


def _add_broken(directory: pathlib.Path, count: int) -> None:
    """Adds records that no server has written, of ended sessions."""
    store = SqliteStore.open(directory)
    keys = [store_records.key(index) for index in range(count)]
    store.commit([Change(key, None, b"no record", True, False) for key in keys])
    store.close()


def test_inspect_shows_what_a_store_holds(directory: pathlib.Path) -> None:
    _add_broken(directory, 12)
    store = SqliteStore.open(directory)
    result = _run("inspect", "--store", directory)
    assert result.exit_code == 0
    assert _line(result, "id") == store.id
    store.close()
    result = _run("inspect", "--store", directory)
    assert _line(result, "schema") == "1"
    assert _line(result, "durability") == "process-crash"
    assert _line(result, "sessions") == "0 live, 12 ended"
    assert re.fullmatch(r"store.db [\d,]+, reserve [\d,]+", _line(result, "bytes"))
    assert _line(result, "open in") == "nobody"


def test_inspect_names_who_has_the_store_open(directory: pathlib.Path) -> None:
    with StoreProcess(directory) as first, StoreProcess(directory) as second:
        assert first.ask("open") == second.ask("open") == "open"
        result = _run("inspect", "--store", directory)
        for process in (first, second):
            assert re.search(rf"pid {process.pid}: .*server.store_process", result.output)
        second.kill()
        result = _run("inspect", "--store", directory)
        assert f"pid {second.pid}" not in result.output
        assert _line(result, "open in").startswith(f"pid {first.pid}: ")


def test_inspect_names_a_server_of_another_pid_namespace(directory: pathlib.Path) -> None:
    with StoreProcess(directory) as server:
        assert server.ask("open") == "open"
        namespace = ["unshare", "--pid", "--fork", "--mount-proc"]
        if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
            pytest.skip("another PID namespace needs the right to make one")
        script = "from tickcell.server.store.commands import store; store()"
        found = subprocess.run(
            [*namespace, sys.executable, "-c", script, "inspect", "--store", str(directory)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "a process of another PID namespace" in found.stdout


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_looking_at_a_killed_servers_store_changes_nothing(
    directory: pathlib.Path, command: str
) -> None:
    with StoreProcess(directory) as server:
        server.ask("open")
        server.ask("add 100")
        server.kill()
    files = ("store.db", "store.db-wal", "tickcell-store", "reserve")
    before = {name: (directory / name).read_bytes() for name in files}
    result = _run(command, "--store", directory)
    assert "100" in result.output
    assert {name: (directory / name).read_bytes() for name in files} == before


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_looking_at_a_closed_store_leaves_no_file(directory: pathlib.Path, command: str) -> None:
    before = {found.name for found in directory.iterdir()}
    assert _run(command, "--store", directory).exit_code == 0
    assert {found.name for found in directory.iterdir()} == before


def test_check_says_that_all_is_sound(directory: pathlib.Path) -> None:
    result = _run("check", "--store", directory)
    assert (result.exit_code, result.output) == (0, f"{directory}: 0 records, all sound.\n")


def test_check_shows_the_first_problems_and_fails(directory: pathlib.Path) -> None:
    _add_broken(directory, 12)
    result = _run("check", "--store", directory)
    assert result.exit_code == 1
    assert len(re.findall(r"^problem  0000\d\d: .+$", result.output, re.MULTILINE)) == 8
    assert "and 4 more" in result.output
    assert "12 records, 12 problems" in result.output


def test_check_counts_the_sessions_of_each_version_again(directory: pathlib.Path) -> None:
    pin = Pin("drive", "2", 64 * "2")
    store = SqliteStore.open(directory)
    store.commit([store_records.step(store_records.key(n), None)._replace(pin=pin) for n in (1, 2)])
    store.close()
    with contextlib.closing(apsw.Connection(str(directory / "store.db"))) as connection:
        assert checking.check_all(connection, store_records.problem) == (2, [], [])
        connection.execute("UPDATE pin SET live = 7")
        assert checking.check_all(connection, store_records.problem) == (
            2,
            ["the count of drive 2 is 7 live, but the records 2"],
            [],
        )


def test_backup_and_restore_say_what_they_did(
    directory: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    backup = tmp_path / "backup.db"
    result = _run("backup", "--store", directory, backup)
    assert (result.exit_code, result.output) == (0, f"{backup}: 0 records, all sound.\n")
    result = _run("restore", "--store", directory, backup)
    assert result.exit_code == 0
    aside, last = result.output.splitlines()
    (replaced,) = directory.glob("replaced-*")
    assert aside.startswith(f"{replaced}: holds the old store")
    assert last == f"{directory}: 0 records, all sound."
    result = _run("restore", "--store", tmp_path / "new", backup)
    assert (result.exit_code, result.output) == (0, f"{tmp_path / 'new'}: 0 records, all sound.\n")


def test_backup_with_a_damaged_record_is_made_and_fails(
    directory: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    _add_broken(directory, 1)
    result = _run("backup", "--store", directory, tmp_path / "backup.db")
    assert result.exit_code == 1
    assert "1 records, 1 problems" in result.output
    assert (tmp_path / "backup.db").exists()


def test_durability_is_changed_while_nobody_has_the_store_open(directory: pathlib.Path) -> None:
    with StoreProcess(directory) as server:
        assert server.ask("open process-crash") == "open"
        result = _run("durability", "--store", directory, "power-loss")
        assert result.exit_code == 1
        assert f"is in use (pid {server.pid}" in result.output
        server.ask("close")
        result = _run("durability", "--store", directory, "power-loss")
        assert result.output == (
            f"{directory}: has durability power-loss from now on; it was process-crash.\n"
        )
        assert server.ask("open process-crash").startswith("OtherDurabilityError")
        assert server.ask("open power-loss") == "open"


@pytest.mark.parametrize(
    "command", [["inspect"], ["check"], ["backup", "copy"], ["durability", "power-loss"]]
)
def test_directory_that_is_no_store_is_refused(command: list[str], tmp_path: pathlib.Path) -> None:
    result = _run(*command, "--store", tmp_path / "none")
    assert result.exit_code == 1
    assert "is not a store's directory" in result.output
    assert not (tmp_path / "none").exists()
    result = _run(*command, "--store", tmp_path)
    assert result.exit_code == 1
    assert "holds no store" in result.output


@pytest.mark.parametrize("command", [["inspect"], ["check"], ["backup", "copy"]])
def test_damaged_store_is_one_sentence_with_the_way_out(
    directory: pathlib.Path, command: list[str]
) -> None:
    (directory / "store.db").write_bytes(b"")
    result = _run(*command, "--store", directory)
    assert result.exit_code == 1
    assert "tickcell store restore" in result.output


def test_store_is_named_by_the_environment_or_lies_in_the_state_home(
    directory: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    _add_broken(directory, 12)
    home = tmp_path / "state"
    home.mkdir()
    (home / "tickcell").symlink_to(directory)
    for variable, value in {"TICKCELL_STORE": directory, "XDG_STATE_HOME": home}.items():
        result = CliRunner().invoke(commands.store, ["inspect"], env={variable: str(value)})
        assert "12 ended" in result.output, variable

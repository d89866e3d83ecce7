"""Several processes on one store: running, stopped and killed."""

from __future__ import annotations

import json
import pathlib
import random
import signal
from collections.abc import Iterator

import apsw
import pytest

from server import store_records
from server.store_process import StoreProcess
from tickcell.server.store import checking


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[StoreProcess]:
    with StoreProcess(tmp_path) as process:
        assert process.ask("open") == "open"
        assert process.ask("set 000000 1") == "Applied"
        yield process


def test_process_sees_what_another_has_committed(
    server: StoreProcess, tmp_path: pathlib.Path
) -> None:
    with StoreProcess(tmp_path) as other:
        other.ask("open")
        server.ask("set 000000 7")
        assert other.ask("get 000000") == "7"


def test_two_writers_of_one_record_lose_no_update(
    server: StoreProcess, tmp_path: pathlib.Path
) -> None:
    with StoreProcess(tmp_path) as other:
        other.ask("open")
        for process in (server, other):
            process.tell("increment 000000 5000")
        for process in (server, other):
            assert process.answer() == "done"
        assert server.ask("get 000000") == "10001"


def test_writer_stopped_inside_its_transaction_leaves_others_contended_at_once(
    server: StoreProcess, tmp_path: pathlib.Path
) -> None:
    with StoreProcess(tmp_path) as writer, StoreProcess(tmp_path) as late:
        writer.tell("begin")
        writer.wait_until_stopped()
        assert server.ask("set 000000 2") == "Contended"
        assert server.ask("get 000000") == "1"
        assert late.ask("open") == "open"
        assert late.ask("get 000000") == "1"
        assert "locked" in server.ask("upkeep")
        writer.signal(signal.SIGCONT)
        assert writer.answer() == "rolled back"
        assert server.ask("set 000000 2") == "Applied"
        assert server.ask("upkeep") == "done"


def test_writer_killed_inside_its_transaction_leaves_the_old_record(
    server: StoreProcess, tmp_path: pathlib.Path
) -> None:
    with StoreProcess(tmp_path) as writer:
        writer.tell("begin")
        writer.wait_until_stopped()
        writer.kill()
        assert server.ask("get 000000") == "1"
        assert server.ask("set 000000 2") == "Applied"


def test_server_stopped_outside_a_transaction_holds_nobody(
    server: StoreProcess, tmp_path: pathlib.Path
) -> None:
    with StoreProcess(tmp_path) as other:
        assert other.ask("open") == "open"
        server.stop()
        assert other.ask("set 000000 2") == "Applied"
        assert other.ask("get 000000") == "2"
        assert other.ask("upkeep") == "done"


def test_killed_server_loses_nothing_that_it_acknowledged(tmp_path: pathlib.Path) -> None:
    chance = random.Random(20)
    with StoreProcess(tmp_path) as first:
        assert first.ask("open") == "open"
        first.ask("add 20")
        first.ask("close")
    for kill in range(10):
        with StoreProcess(tmp_path) as process:
            assert process.ask("open") == "open"
            process.tell("tick")
            answers = [process.answer() for _ in range(chance.randint(1, 2000))]
            process.end()
            acknowledged = dict(line.split() for line in answers + process.answers())
        with StoreProcess(tmp_path) as restarted:
            assert restarted.ask("open") == "open"
            for name, version in acknowledged.items():
                # The one in the air may have been committed.
                assert int(restarted.ask(f"get {name}")) - int(version) in (0, 1), f"kill {kill}"
    assert _checked(tmp_path) == (20, [], [])


def test_last_server_to_stop_leaves_one_file_of_sessions(tmp_path: pathlib.Path) -> None:
    with StoreProcess(tmp_path) as first, StoreProcess(tmp_path) as second:
        assert first.ask("open") == second.ask("open") == "open"
        first.ask("add 100")
        first.ask("close")
        assert (tmp_path / "store.db-wal").exists()
        assert second.ask("get 000099") == "1"
        second.ask("close")
        assert not (tmp_path / "store.db-wal").exists()
    assert _checked(tmp_path) == (100, [], [])


def test_servers_that_start_at_once_all_serve_one_store(tmp_path: pathlib.Path) -> None:
    processes = [StoreProcess(tmp_path / "store") for _ in range(4)]
    try:
        for process in processes:
            process.tell("open")
        assert [process.answer() for process in processes] == ["open"] * 4
        assert len({process.ask("id") for process in processes}) == 1
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_two_servers_at_a_high_rate_do_not_hold_each_other_up(
    tmp_path: pathlib.Path, seconds: int
) -> None:
    with StoreProcess(tmp_path) as first, StoreProcess(tmp_path) as second:
        for process in (first, second):
            assert process.ask("open") == "open"
            process.tell(f"pace 1500 {seconds}")
        for process in (first, second):
            found = json.loads(process.answer())
            print(found)
            assert found["count"] >= 1400 * seconds
            assert found["log_bytes"] < 64 << 20


def _checked(directory: pathlib.Path) -> checking.Checked:
    connection = apsw.Connection(str(directory / "store.db"))
    try:
        return checking.check_all(connection, store_records.problem)
    finally:
        connection.close()

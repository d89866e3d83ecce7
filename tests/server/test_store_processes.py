"""Several processes on one store: running, stopped and killed."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING

import pytest

from server import store_records
from server.store_process import StoreProcess
from tickcell.server.store import LmdbStore, soundness

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[StoreProcess]:
    with StoreProcess(tmp_path) as process:
        assert process.ask("open") == "open"
        assert process.ask("set 000000 1") == "[True]"
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
            process.tell("increment 000000 2000")
        for process in (server, other):
            assert process.answer().startswith("lost ")
        assert server.ask("get 000000") == "4001"


def test_writer_killed_inside_its_transaction_leaves_the_old_record(
    server: StoreProcess, tmp_path: pathlib.Path
) -> None:
    with StoreProcess(tmp_path) as writer:
        writer.tell("begin")
        writer.wait_until_stopped()
        writer.kill()
        assert server.ask("get 000000") == "1"
        assert server.ask("set 000000 2") == "[True]"


@pytest.mark.parametrize("end", [signal.SIGCONT, signal.SIGKILL])
def test_writer_stopped_inside_its_transaction_holds_others_until_it_goes_on_or_dies(
    server: StoreProcess, tmp_path: pathlib.Path, end: signal.Signals
) -> None:
    with StoreProcess(tmp_path) as writer:
        writer.tell("begin")
        writer.wait_until_stopped()
        server.tell("set 000000 2")
        assert not server.has_answered(within_s=0.2)
        writer.signal(end)
        assert server.answer() == "[True]"


def test_writer_stopped_inside_its_transaction_does_not_hold_readers(
    server: StoreProcess, tmp_path: pathlib.Path
) -> None:
    with StoreProcess(tmp_path) as writer, StoreProcess(tmp_path) as late:
        writer.tell("begin")
        writer.wait_until_stopped()
        assert server.ask("get 000000") == "1"
        assert late.ask("open") == "open"
        assert late.ask("get 000000") == "1"


def test_server_stopped_outside_a_transaction_holds_nobody(
    server: StoreProcess, tmp_path: pathlib.Path
) -> None:
    with StoreProcess(tmp_path) as other:
        assert other.ask("open") == "open"
        server.signal(signal.SIGSTOP)
        server.wait_until_stopped()
        assert other.ask("set 000000 2") == "[True]"
        assert other.ask("get 000000") == "2"


def test_server_killed_while_it_commits_leaves_whole_records(tmp_path: pathlib.Path) -> None:
    chance = random.Random(20)
    for kill in range(12):
        with StoreProcess(tmp_path) as process:
            assert process.ask("open") == "open"
            process.ask("add 50")
            process.ask("tick")
            watcher = LmdbStore.open(tmp_path, check=store_records.version)
            seen = _version(watcher, "000000")
            # Let it get somewhere, and kill it in the middle of that.
            while _version(watcher, "000000") < seen + chance.randint(1, 20):
                pass
            process.kill()
            watcher.close()
        # Each record's checksum covers all of it.
        assert soundness.examine(tmp_path, store_records.version) == (50, []), f"kill {kill}"


def test_killed_server_needs_no_examination(server: StoreProcess, tmp_path: pathlib.Path) -> None:
    server.kill()
    with StoreProcess(tmp_path) as restarted:
        assert restarted.ask("open") == "open"
        assert restarted.ask("note") == "None"
        assert restarted.ask("get 000000") == "1"


def test_reader_killed_in_its_transaction_is_cleared_by_the_next_sync(
    server: StoreProcess, tmp_path: pathlib.Path
) -> None:
    with StoreProcess(tmp_path) as reader, StoreProcess(tmp_path) as witness:
        before = int(witness.ask("readers"))
        reader.tell("read")
        reader.wait_until_stopped()
        reader.kill()
        assert int(witness.ask("readers")) == before + 1
        server.ask("sync")
        assert int(witness.ask("readers")) == before


def _version(store: LmdbStore, key: str) -> int:
    (record,) = store.load([key.encode()])
    assert record is not None
    return store_records.version(record)

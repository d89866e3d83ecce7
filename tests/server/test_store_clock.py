"""The store's clock: it advances while a server keeps it up, and by nothing else."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from server.store_process import StoreProcess
from tickcell.server.store.store_clock import Kept, StoreClock

SECOND_NS = 1_000_000_000


def now_s(process: StoreProcess) -> float:
    return int(process.ask("now")) / SECOND_NS


def test_two_servers_have_the_same_time(tmp_path: pathlib.Path) -> None:
    with StoreProcess(tmp_path) as first, StoreProcess(tmp_path) as second:
        assert first.ask("open") == second.ask("open") == "open"
        for process in (first, second, first):
            assert process.ask("keep 1") == "done"
        before, between, after = now_s(first), now_s(second), now_s(first)
        assert before <= between <= after


def test_server_that_was_stopped_takes_over_the_time_that_another_kept(
    tmp_path: pathlib.Path,
) -> None:
    with StoreProcess(tmp_path) as running, StoreProcess(tmp_path) as stopped:
        assert running.ask("open") == stopped.ask("open") == "open"
        for _ in range(30):
            running.ask("pass 1.5")
            assert running.ask("upkeep") == "done"
        # Of 45 s it knows 2, until it finds that it has been away.
        stopped.ask("pass 45")
        assert now_s(stopped) >= now_s(running) - 2 > 40


@pytest.mark.parametrize("offset_s", [-3 * 86_400, 2 * 86_400])
def test_another_monotonic_clock_makes_no_time_pass(
    tmp_path: pathlib.Path, offset_s: float
) -> None:
    with StoreProcess(tmp_path) as first, StoreProcess(tmp_path) as second:
        # Also before it is open.
        second.ask(f"pass {offset_s}")
        assert first.ask("open") == second.ask("open") == "open"
        for _ in range(20):
            assert first.ask("upkeep") == second.ask("upkeep") == "done"
        # In truth, less than a second.
        assert now_s(first) < 3
        assert now_s(second) < 3
        assert second.ask("close") == "closed"
        assert second.ask("open") == "open"
        assert now_s(second) < 5


def test_hour_without_a_possible_commit_is_no_time(tmp_path: pathlib.Path) -> None:
    with StoreProcess(tmp_path) as server, StoreProcess(tmp_path) as writer:
        assert server.ask("open") == "open"
        server.ask("set 000000 1")
        before = now_s(server)
        writer.tell("begin")
        writer.wait_until_stopped()
        for _ in range(60):
            server.ask("pass 60")
            assert "locked" in server.ask("upkeep")
        assert now_s(server) <= before + 2
        writer.kill()
        assert server.ask("upkeep") == "done"
        assert now_s(server) < before + 5


def test_time_of_a_restarted_server_goes_on_where_it_was(tmp_path: pathlib.Path) -> None:
    with StoreProcess(tmp_path) as first:
        first.ask("open")
        for _ in range(10):
            first.ask("pass 1")
            first.ask("upkeep")
        before = now_s(first)
        first.kill()
    with StoreProcess(tmp_path) as second:
        second.ask("pass 86400")
        second.ask("open")
        assert 10 <= before < now_s(second) + 1 < before + 4


def test_store_that_is_put_back_under_a_server_is_noticed_once(tmp_path: pathlib.Path) -> None:
    backup = tmp_path / "backup.db"
    with StoreProcess(tmp_path / "store") as server:
        server.ask("open")
        server.ask("set 000000 1")
        _sqlite(tmp_path / "store" / "store.db", f"VACUUM INTO '{backup}'")
        store_id = server.ask("id")
        for _ in range(10):
            server.ask("pass 1")
            server.ask("upkeep")
        server.ask("set 000000 2")
        _put_back(backup, tmp_path / "store" / "store.db")
        assert server.ask("get 000000") == "1"
        assert server.ask("upkeep").startswith("StorePutBackError")
        assert now_s(server) < 5
        assert server.ask("upkeep") == "done"
        assert server.ask("id") == store_id


def test_clock_that_does_not_check_out_is_damage(tmp_path: pathlib.Path) -> None:
    with StoreProcess(tmp_path) as server:
        server.ask("open")
        _sqlite(tmp_path / "store.db", "UPDATE store SET clock_ns = clock_ns + 1000000000000")
        assert server.ask("upkeep").startswith("StoreDamagedError")
        assert now_s(server) < 5
    with StoreProcess(tmp_path) as server:
        assert server.ask("open").startswith("StoreDamagedError")


def test_clock_of_a_server_never_goes_back() -> None:
    ns = 100 * SECOND_NS
    clock = StoreClock(Kept(0, ns), lambda: ns)
    ns += SECOND_NS
    before = clock.now_ns()
    # Another server kept it late, or by a slower clock.
    clock.follow(Kept(SECOND_NS // 2, ns))
    assert clock.now_ns() == before


def test_clock_that_stands_goes_on_from_where_it_stood() -> None:
    ns = 100 * SECOND_NS
    clock = StoreClock(Kept(0, ns), lambda: ns)
    ns += SECOND_NS
    clock.stand()
    for _ in range(5):
        ns += SECOND_NS
        clock.stand()
        clock.confirm(clock.next())
        assert clock.now_ns() == SECOND_NS
    clock.confirm(clock.next())
    clock.go_on()
    assert clock.now_ns() == SECOND_NS
    ns += SECOND_NS
    assert clock.now_ns() == 2 * SECOND_NS


def test_clock_that_comes_to_stand_while_it_is_kept_does_not_go_back() -> None:
    ns = 100 * SECOND_NS
    clock = StoreClock(Kept(0, ns), lambda: ns)
    kept = clock.next()
    ns += SECOND_NS
    clock.stand()
    before = clock.now_ns()
    clock.confirm(kept)
    assert clock.now_ns() == before


def _sqlite(database: pathlib.Path, statement: str) -> None:
    """Runs a statement in another process, with the standard library's SQLite."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute(sys.argv[2]).fetchall(); c.close()"
    )
    subprocess.run([sys.executable, "-c", script, str(database), statement], check=True)


def _put_back(source: pathlib.Path, target: pathlib.Path) -> None:
    """Does what the command `.restore` of SQLite's shell does, in another process."""
    script = (
        "import sqlite3, sys; s = sqlite3.connect(sys.argv[1]); t = sqlite3.connect(sys.argv[2]); "
        "s.backup(t); t.close(); s.close()"
    )
    subprocess.run([sys.executable, "-c", script, str(source), str(target)], check=True)

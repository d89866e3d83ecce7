"""Several workers on one address: whatever becomes of them, sessions go on as in the plain loop."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

import import_graph
from doubles.looped import looped
from replays import Replays
from server.http_client import fetch
from server.serve_process import PATIENCE_S, ServeProcess, command, complaint
from server.test_metrics import value
from server.test_systemd import Manager
from tickcell.conformance.caller import Caller, StreamPath
from tickcell.conformance.subject import Subject
from tickcell.model import Bundle
from tickcell.model.bundle import SHIPPED

NAME = {"model": "drive", "version": "1"}


def arguments(directory: pathlib.Path, workers: int = 2) -> tuple[str, ...]:
    return (
        *("--workers", str(workers), "--listen", "localhost:0", "--metrics", "localhost:0"),
        *("--store", str(directory / "store")),
    )


def metric(server: ServeProcess, name: str, **labels: str) -> float:
    return value(fetch(server.watched, "/metrics").body, name, **labels)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@contextlib.contextmanager
def replacing(server: ServeProcess) -> Iterator[list[int]]:
    """Waits, after the block, until there are as many workers as before, and none of them."""
    before = server.children()
    yield before
    wait_until(
        lambda: (
            len(server.children()) == len(before)
            and not {*server.children()} & {*before}
            and metric(server, "tickcell_workers") == len(before)
        ),
        "the workers are not replaced",
    )


class TestServing:
    def test_first_lines_are_said_once_and_say_how_many_serve(self, tmp_path: pathlib.Path) -> None:
        with ServeProcess(*arguments(tmp_path)) as server:
            assert len(server.children()) == 2
            firsts = [line.split()[0] for line in server.banner]
            assert firsts == ["tickcell", "model", "store", "shared", "watch", "oip", "try"]
            assert server.banner[3] == "  shared by 2 workers"
            status, log = server.end()
        assert status == 0
        assert "Traceback" not in log

    def test_connections_are_spread_over_the_workers(self, tmp_path: pathlib.Path) -> None:
        with ServeProcess(*arguments(tmp_path)) as server, contextlib.ExitStack() as stack:
            # All on one of them: once in 2**39 times.
            for _ in range(40):
                caller = stack.enter_context(Caller(server.address))
                Subject(caller, looped(Bundle.load(), caller)).advance(
                    stack.enter_context(StreamPath(caller))
                )
            assert metric(server, "tickcell_streams") == 40
            port = int(server.address.rpartition(":")[2])
            assert all(_connections(pid, port) > 1 for pid in server.children())

    def test_metrics_are_the_sums_of_what_was_stepped(self, tmp_path: pathlib.Path) -> None:
        bundle = Bundle.load()
        with ServeProcess(*arguments(tmp_path)) as server:
            for _ in range(12):
                with Caller(server.address) as caller, StreamPath(caller) as path:
                    subject = Subject(caller, looped(bundle, caller))
                    for _ in range(7):
                        subject.advance(path)
            text = fetch(server.watched, "/metrics").body
            assert value(text, "tickcell_steps_applied_total", **NAME) == 12 * 7
            assert value(text, "tickcell_sessions_created_total", **NAME) == 12
            # What those have counted that are replaced stays counted.
            with replacing(server):
                server.send(signal.SIGHUP)
            text = fetch(server.watched, "/metrics").body
            assert value(text, "tickcell_steps_applied_total", **NAME) == 12 * 7
            assert value(text, "tickcell_tick_seconds_count", **NAME) == 12 * 7
            assert value(text, "tickcell_workers_lost_total") == 0
            wait_until(
                lambda: metric(server, "tickcell_store_sessions", state="live") == 12,
                "the store's sessions are not shown",
            )

    def test_probes_are_answered_by_the_parent(self, tmp_path: pathlib.Path) -> None:
        with ServeProcess(*arguments(tmp_path)) as server:
            for path in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"):
                assert fetch(server.watched, path).status == 200
            # A stopped worker is live for 5 s, and the other serves on.
            os.kill(server.children()[0], signal.SIGSTOP)
            wait_until(
                lambda: fetch(server.watched, "/livez").status == 503, "a still worker is live"
            )
            assert fetch(server.watched, "/readyz").status == 200
            # Then it is killed, and another one is started.
            wait_until(lambda: fetch(server.watched, "/livez").status == 200, "it stays still")
            assert "has stalled, and is killed" in server.end()[1]

    def test_parent_holds_neither_store_nor_model(self, tmp_path: pathlib.Path) -> None:
        with ServeProcess(*arguments(tmp_path)) as server:
            assert _mapped(server.pid) == set()
            assert all(_mapped(pid) == {"apsw", "ai_edge_litert"} for pid in server.children())
            held = [os.readlink(each) for each in pathlib.Path(f"/proc/{server.pid}/fd").iterdir()]
            assert not [path for path in held if path.startswith(str(tmp_path))]


def _mapped(pid: int) -> set[str]:
    """Returns which of the native libraries of a serving process it has loaded."""
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
    return {name for name in ("apsw", "ai_edge_litert") if f"/{name}/" in maps}


def _connections(pid: int, port: int) -> int:
    """Returns how many sockets a process has at a TCP port."""
    inodes = set()
    for each in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(os.readlink(each))
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return sum(
        row[1].endswith(f":{port:04X}") and row[3] == "01" and f"socket:[{row[9]}]" in inodes
        for row in rows
    )


def test_parent_imports_nothing_that_serves(project: pathlib.Path) -> None:
    graph: dict[str, set[str]] = {}
    for each in import_graph.imports(project):
        if each.at_start:
            graph.setdefault(each.module, set()).add(each.imported)
    reached: set[str] = set()
    todo = ["tickcell.server.workers.parent"]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += graph.get(name, ())
    assert "tickcell.server.monitoring.http_port" in reached
    serving = ("grpc", "apsw", "numpy", "tickcell.model", "tickcell.server.engine")
    assert not [name for name in reached if name.startswith(serving)]


class TestWorkerThatEnds:
    @pytest.mark.parametrize(
        ("workers", "sessions"), [(2, 10), pytest.param(4, 50, marks=pytest.mark.slow)]
    )
    def test_kill_of_each_under_live_streams_shows_in_no_output(
        self, tmp_path: pathlib.Path, workers: int, sessions: int
    ) -> None:
        with ServeProcess(*arguments(tmp_path, workers)) as server:
            replays = Replays(server.address, sessions)
            with replays.streaming(), replacing(server) as pids:
                for killed, pid in enumerate(pids, start=1):
                    replays.wait_until_all_moved(5)
                    os.kill(pid, signal.SIGKILL)
                    wait_until(
                        lambda killed=killed: (  # type: ignore[misc]
                            metric(server, "tickcell_workers_lost_total") == killed
                            and metric(server, "tickcell_workers") == workers
                        ),
                        "the worker is not replaced",
                    )
                replays.wait_until_all_moved(5)
            steps = replays.assert_as_in_the_plain_loop()
            log = server.end()[1]
        assert log.count("was ended by SIGKILL; starting another") == workers
        print(f"{workers} workers killed under {sessions} streams: {steps} steps, 0 differ")

    def test_one_that_ends_again_and_again_is_started_less_often(
        self, tmp_path: pathlib.Path
    ) -> None:
        bundle = pathlib.Path(shutil.copytree(SHIPPED, tmp_path / "bundle"))
        with ServeProcess(*arguments(tmp_path), "--bundle", str(bundle)) as server:
            (bundle / "card.json").rename(bundle / "away")
            gone = server.children()[0]
            os.kill(gone, signal.SIGKILL)
            with Caller(server.address) as caller:
                assert caller.create().next_step == 0
            wait_until(lambda: not is_alive(gone), "it lives")
            began_s = time.monotonic()
            # 0.1, 0.2, 0.4, 0.8 and 1.6 s, and five starts.
            while time.monotonic() - began_s < 3.5:
                assert metric(server, "tickcell_workers") == 1
                time.sleep(0.1)
            (bundle / "away").rename(bundle / "card.json")
            wait_until(lambda: metric(server, "tickcell_workers") == 2, "it does not come back")
            log = server.end()[1]
        assert 1 <= log.count("a worker cannot start: ") <= 6
        assert "card.json: cannot be read" in log
        assert "Traceback" not in log


class TestReplacement:
    @pytest.mark.parametrize(
        ("workers", "sessions"), [(2, 10), pytest.param(4, 50, marks=pytest.mark.slow)]
    )
    def test_under_live_streams_it_shows_in_no_output(
        self, tmp_path: pathlib.Path, workers: int, sessions: int
    ) -> None:
        with ServeProcess(*arguments(tmp_path, workers)) as server:
            replays = Replays(server.address, sessions)
            with replays.streaming():
                replays.wait_until_all_moved(5)
                with replacing(server):
                    server.send(signal.SIGHUP)
                replays.wait_until_all_moved(5)
            steps = replays.assert_as_in_the_plain_loop()
            text = fetch(server.watched, "/metrics").body
            assert value(text, "tickcell_steps_applied_total", **NAME) == steps
            assert value(text, "tickcell_workers_lost_total") == 0
            assert f"replaced {workers} workers" in server.end()[1]

    def test_old_workers_stay_where_new_ones_cannot_start(self, tmp_path: pathlib.Path) -> None:
        bundle = pathlib.Path(shutil.copytree(SHIPPED, tmp_path / "bundle"))
        with ServeProcess(*arguments(tmp_path), "--bundle", str(bundle)) as server:
            before = server.children()
            (bundle / "card.json").rename(bundle / "away")
            server.send(signal.SIGHUP)
            wait_until(lambda: len(server.children()) == 3, "no worker is started")
            wait_until(lambda: server.children() == before, "the old workers do not stay")
            with Caller(server.address) as caller:
                assert caller.create().next_step == 0
            (bundle / "away").rename(bundle / "card.json")
            with replacing(server):
                server.send(signal.SIGHUP)
            log = server.end()[1]
        assert "card.json: cannot be read" in log
        assert "the workers that are not replaced yet continue" in log


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_all_drain_and_every_step_that_was_applied_was_answered(
        self, tmp_path: pathlib.Path, number: signal.Signals
    ) -> None:
        place = ("--store", str(tmp_path / "store"), "--grace", "3600", "--listen")
        # What is entered here lives until the streams have stopped.
        with (
            contextlib.ExitStack() as after,
            ServeProcess("--workers", "2", *place, "localhost:0") as server,
        ):
            pids = server.children()
            replays = Replays(server.address, 6)
            with replays.streaming():
                replays.wait_until_all_moved(5)
                status, log = server.end(number)
                assert (status, "did not end" in log) == (0, False)
                assert not [pid for pid in pids if is_alive(pid)]
                after.enter_context(ServeProcess("--workers", "2", *place, server.address))
                replays.wait_until_all_moved(5)
            replays.assert_as_in_the_plain_loop()

    def test_worker_that_does_not_drain_is_killed_after_the_grace(
        self, tmp_path: pathlib.Path
    ) -> None:
        with ServeProcess(*arguments(tmp_path), "--grace", "0") as server:
            pids = server.children()
            os.kill(pids[0], signal.SIGSTOP)
            assert server.end()[0] == 0
            assert not [pid for pid in pids if is_alive(pid)]

    def test_workers_end_by_themselves_when_their_parent_is_killed(
        self, tmp_path: pathlib.Path
    ) -> None:
        with ServeProcess(*arguments(tmp_path)) as server, Caller(server.address) as caller:
            pids = server.children()
            subject = Subject(caller, looped(Bundle.load(), caller))
            with StreamPath(caller) as path:
                subject.advance(path)
                assert server.end(signal.SIGKILL)[0] == -signal.SIGKILL
            wait_until(lambda: not [pid for pid in pids if is_alive(pid)], "they live on")
            # Their port is free again, and their store is as they left it.
            again = ("--store", str(tmp_path / "store"), "--listen", server.address)
            with ServeProcess(*again, "--workers", "2"), Caller(server.address) as caller_again:
                assert caller_again.get(subject.id).next_step == 1


class TestStart:
    def test_worker_that_cannot_start_ends_the_parent_with_its_reason(
        self, tmp_path: pathlib.Path
    ) -> None:
        (tmp_path / "thesis.txt").write_text("mine")
        said = complaint("--workers", "2", "--listen", "localhost:0", "--store", str(tmp_path))
        assert f"{tmp_path}: is not a store's directory" in said

    def test_port_that_is_taken_is_refused(self, tmp_path: pathlib.Path) -> None:
        store = ("--workers", "2", "--store", str(tmp_path / "store"))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"localhost:{taken.getsockname()[1]}"
            assert f"{address} is taken by another process" in complaint(
                *store, "--listen", address
            )

    def test_port_of_workers_is_refused_to_others_and_they_go_on(
        self, tmp_path: pathlib.Path
    ) -> None:
        with ServeProcess(*arguments(tmp_path)) as server:
            place = ("--listen", server.address, "--store", str(tmp_path / "other"))
            for workers in ("1", "2"):
                assert "is taken" in complaint("--workers", workers, *place)
            with Caller(server.address) as caller:
                assert caller.create().next_step == 0

    def test_plain_text_where_other_machines_reach_it_needs_a_word(
        self, tmp_path: pathlib.Path
    ) -> None:
        place = ("--workers", "2", "--store", str(tmp_path / "store"), "--listen")
        assert "other machines can reach 0.0.0.0:" in complaint(*place, "0.0.0.0:0")
        with ServeProcess(*place, "0.0.0.0:0", "--insecure") as server:
            port = server.address.rpartition(":")[2]
            with Caller(f"localhost:{port}") as caller:
                assert caller.create().next_step == 0

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--workers", "0"), "--workers: got 0, expected at least 1"),
            (("--workers", "2", "--durability", "none"), "in the memory of one process"),
            (("--workers", "2", "--listen", "unix:/tmp/x"), "a unix socket cannot be shared"),
            (
                ("--workers", "2", "--models", "m", "--model-control", "explicit"),
                "reaches one worker only",
            ),
        ],
    )
    def test_what_workers_cannot_do_is_refused(self, options: tuple[str, ...], said: str) -> None:
        finished = subprocess.run(
            command(*options), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert finished.returncode == 2
        assert said in " ".join(finished.stderr.split())


def test_systemd_hears_from_the_parent_alone(tmp_path: pathlib.Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    with contextlib.closing(manager):
        settings = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"}
        with ServeProcess(*arguments(tmp_path), "--grace", "0", **settings) as server:
            assert server.banner[-1].startswith("  try")
            heard = [manager.hear() for _ in range(4)]
            assert heard.count(["READY=1", "STATUS=2 workers serve"]) == 1
            assert heard.count(["WATCHDOG=1"]) == 3
            # It is fed only while all loops move.
            os.kill(server.children()[0], signal.SIGSTOP)
            wait_until(lambda: fetch(server.watched, "/livez").status == 503, "it is live")
            assert manager.is_silent_for(0.6)
            server.send(signal.SIGTERM)
            while (said := manager.hear()) == ["WATCHDOG=1"]:
                pass
            assert said == ["STOPPING=1", "STATUS=draining"]
            assert server.wait()[0] == 0

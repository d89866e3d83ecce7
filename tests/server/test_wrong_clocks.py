"""No wall clock, however wrong, no pause and no full disk ends a session early: real servers."""

from __future__ import annotations

import itertools
import os
import pathlib
import signal
import time
from collections.abc import Sequence

import libfaketime
import pytest
from google.protobuf import duration_pb2

from doubles.looped import looped
from server import small_disk
from server.serve_process import ServeProcess
from tickcell.conformance.caller import Caller, Refused, StreamPath
from tickcell.conformance.subject import Subject
from tickcell.model import Bundle

SESSIONS = 20
IDLE_TTL_S = 60

RIGHT, IN_1970, DAYS_BEHIND, DAYS_AHEAD = "+0", "@1970-01-01 00:00:10", "-3d", "+2d"
WRONG = (IN_1970, DAYS_BEHIND, DAYS_AHEAD)
# Right first, since it is a right clock's sessions that a wrong one used to end.
ORDERS = [(RIGHT, *order) for order in itertools.permutations(WRONG)]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def serve(store: pathlib.Path, wall_clock: str, *arguments: str) -> ServeProcess:
    """Starts a server whose wall clock is wrong; its monotonic clock is the machine's."""
    _, preload = libfaketime.get_reload_information()
    return ServeProcess(
        *("--listen", "localhost:0", "--store", str(store), *arguments),
        **preload,
        FAKETIME=wall_clock,
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        # To which files belong by their times is none of this.
        NO_FAKE_STAT="1",
    )


def subjects_on(caller: Caller, bundle: Bundle) -> list[Subject]:
    ttl = duration_pb2.Duration(seconds=IDLE_TTL_S)
    course = looped(bundle, caller)
    return [Subject(caller, course, idle_ttl_duration=ttl) for _ in range(SESSIONS)]


def step_all(address: str, subjects: Sequence[Subject], first_step: int) -> None:
    """Steps every session once, and checks its output."""
    with Caller(address) as caller, StreamPath(caller) as path:
        for subject in subjects:
            assert caller.get(subject.id).next_step == first_step
            subject.repeat(path, first_step)


@pytest.mark.parametrize(
    "order", [ORDERS[0], *(pytest.param(order, marks=pytest.mark.slow) for order in ORDERS[1:])]
)
def test_sessions_live_on_whatever_the_wall_clock_says_at_a_start(
    order: Sequence[str], tmp_path: pathlib.Path, bundle: Bundle
) -> None:
    store = tmp_path / "store"
    subjects: list[Subject] = []
    for step, wall_clock in enumerate((*order, *order)):
        with serve(store, wall_clock) as server, Caller(server.address) as caller:
            subjects = subjects or subjects_on(caller, bundle)
            step_all(server.address, subjects, step)
            server.end(signal.SIGKILL if step % 2 else signal.SIGTERM)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (IN_1970, DAYS_AHEAD),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in itertools.permutations(WRONG, 2)),
    ],
)
def test_two_servers_of_different_wall_clocks_serve_the_same_sessions(
    first: str, second: str, tmp_path: pathlib.Path, bundle: Bundle
) -> None:
    store = tmp_path / "store"
    with (
        serve(store, first) as one,
        serve(store, second) as other,
        Caller(one.address) as caller,
    ):
        subjects = subjects_on(caller, bundle)
        for step in range(6):
            step_all((one, other)[step % 2].address, subjects, step)


@pytest.mark.slow
def test_server_that_was_stopped_for_longer_than_the_time_to_live_ends_no_session(
    tmp_path: pathlib.Path, bundle: Bundle
) -> None:
    with (
        ServeProcess("--listen", "localhost:0", "--store", str(tmp_path / "store")) as server,
        Caller(server.address) as caller,
    ):
        session = caller.create(idle_ttl_duration=duration_pb2.Duration(seconds=4))
        server.send(signal.SIGSTOP)
        time.sleep(6.0)
        server.send(signal.SIGCONT)
        assert caller.get(session.id).id == session.id
        caller.touch(session.id, session.generation)


@pytest.mark.slow
def test_disk_that_was_full_for_longer_than_the_time_to_live_ends_no_session(
    tmp_path: pathlib.Path, bundle: Bundle
) -> None:
    ttl_s = 3.0
    with (
        small_disk.mounted(tmp_path, 24 << 20),
        ServeProcess(
            *(
                "--listen",
                "localhost:0",
                "--store",
                str(tmp_path / "store"),
                "--idle-ttl",
                str(ttl_s),
            )
        ) as server,
        Caller(server.address) as caller,
        StreamPath(caller) as path,
    ):
        course = looped(bundle, caller)
        large = [Subject(caller, course, series_count=256, window_step_count=32) for _ in range(4)]
        idle = Subject(caller, course)
        for subject in (*large, idle):
            subject.advance(path)
        for number in itertools.count():
            until_s = time.monotonic() + 2 * ttl_s
            while (advanced := advance_where_there_is_room(path, large)) == 0:
                if time.monotonic() > until_s:
                    break
                time.sleep(0.2)
            if advanced == 0:
                break
            logs = tmp_path / f"logs{number}"
            small_disk.fill(logs)
            # What the clock's own commits take would fit here.
            os.truncate(logs, max(0, logs.stat().st_size - (64 << 10)))
        for logs in tmp_path.glob("logs*"):
            logs.unlink()
        for subject in (*large, idle):
            subject.advance(path)


def advance_where_there_is_room(path: StreamPath, subjects: Sequence[Subject]) -> int:
    """Tries to step sessions on a full disk; returns how many could be."""
    advanced = 0
    for subject in subjects:
        try:
            subject.advance(path)
            advanced += 1
        except Refused as refused:
            if refused.reason != "STORE_FULL":
                raise
    return advanced

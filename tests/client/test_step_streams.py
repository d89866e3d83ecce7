"""Steps by streams, over a real server: their places, their time, their threads, Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import seeds
from doubles.counted_source import wait_until
from doubles.faulty_proxy import Fault, FaultyProxy
from tickcell.cli import server_process
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, errors


@pytest.fixture(scope="module")
def narrow_server() -> Iterator[ServerProcess]:
    """A server with a place for one stream."""
    with server_process.temporary("--max-streams", "1") as process:
        yield process


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a stream give way when it was idle for half a second."""
    for module in ("due", "turns"):
        monkeypatch.setattr(f"tickcell.client.{module}.IDLE_S", 0.5)


def test_a_session_that_finds_no_place_for_its_stream_steps_all_the_same(
    sessions: type[Session],
    narrow_server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
) -> None:
    with (
        sessions.create(narrow_server.address, retry_for_s=0) as one,
        sessions.create(narrow_server.address, retry_for_s=0) as other,
    ):
        pairs = [(one.step(frame), other.step(frame)) for frame in frames[:20]]
        with pytest.raises(errors.StreamsFullError):
            next(Session.attach(narrow_server.address, one.id, retry_for_s=0).stream(frames[20:]))
    for outputs in zip(*pairs, strict=True):
        assert np.stack(outputs).tobytes() == expected[:20].tobytes()


@pytest.mark.usefixtures("soon")
def test_an_idle_session_holds_no_place(
    sessions: type[Session],
    narrow_server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
) -> None:
    with (
        sessions.create(narrow_server.address) as idle,
        Session.create(narrow_server.address, retry_for_s=20) as other,
    ):
        outputs = [idle.step(frame) for frame in frames[:5]]
        # It waits until there is a place.
        streamed = np.stack(list(other.stream(frames)))
        outputs += [idle.step(frame) for frame in frames[5:10]]
    assert streamed.tobytes() == expected.tobytes()
    assert np.stack(outputs).tobytes() == expected[:10].tobytes()


def test_a_session_gives_its_place_to_its_own_loops(
    narrow_server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with Session.create(narrow_server.address, retry_for_s=20) as session:
        outputs = [session.step(frame) for frame in frames[:5]]
        outputs += session.stream(frames[5:20])
        outputs += [session.step(frame) for frame in frames[20:25]]
    assert np.stack(outputs).tobytes() == expected[:25].tobytes()


def test_a_stream_that_stalls_is_given_up_after_the_deadline_and_no_sooner(
    sessions: type[Session], proxy: FaultyProxy, frames: np.ndarray, expected: np.ndarray
) -> None:
    proxy.faults["StreamSteps"].append(Fault("stall", after=1))
    with sessions.create(proxy.address, deadline_s=1.0) as session:
        outputs = [session.step(frame) for frame in frames[:2]]
        began = time.monotonic()
        outputs.append(session.step(frames[2]))
        assert 1.0 <= time.monotonic() - began < 10
        outputs += [session.step(frame) for frame in frames[3:6]]
    assert np.stack(outputs).tobytes() == expected[:6].tobytes()
    assert proxy.calls["StreamSteps"] == 2


@pytest.mark.usefixtures("soon")
def test_all_sessions_of_a_process_share_one_watchdog_and_leave_no_thread(
    server: ServerProcess, frames: np.ndarray
) -> None:
    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate()]

    before = len(names()) - names().count("tickcell-watchdog")
    opened = [Session.create(server.address) for _ in range(3)]
    for frame in frames[:3]:
        for session in opened:
            session.step(frame)
    assert names().count("tickcell-watchdog") == 1
    assert names().count("tickcell-replies") >= 3
    # One was left open, one forgotten, and one closed.
    opened.pop().close()
    opened.pop()
    # Those of earlier tests may have ended meanwhile.
    wait_until(lambda: len(names()) <= before + 1 and "tickcell-replies" not in names())
    opened.pop().close()


def test_a_session_that_is_stepped_by_two_threads_at_once_says_so(
    proxy: FaultyProxy, frames: np.ndarray, expected: np.ndarray
) -> None:
    proxy.faults["StepSession"].append(Fault("stall"))
    with Session.create(proxy.address, deadline_s=1.0) as session:
        outputs: list[np.ndarray] = []
        thread = threading.Thread(target=lambda: outputs.append(session.step(frames[0])))
        thread.start()
        wait_until(lambda: proxy.calls["StepSession"] == 1)
        with pytest.raises(errors.UsageError, match="a step is under way"):
            session.step(frames[1])
        thread.join()
        outputs.append(session.step(frames[1]))
    assert np.stack(outputs).tobytes() == expected[:2].tobytes()


# A program of its own: where Ctrl-C strikes amid the end of some object, Python tells that it
# was ignored, and it is.
STRUCK = """
import random, signal, sys
import numpy as np
from tickcell.client import Session

address, seed, path = sys.argv[1:]
frames, chance = np.load(path), random.Random(int(seed))
outputs, strikes = [], 0

def strike(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, strike)
session = Session.create(address)
while len(outputs) < len(frames):
    try:
        if chance.random() < 0.5:
            signal.setitimer(signal.ITIMER_REAL, chance.expovariate(1000.0) + 1e-6)
        output = session.step(frames[len(outputs)])
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        strikes += 1
        # The last output may have been lost on its way here.
        session.rewind(len(outputs))
    else:
        outputs.append(output)
session.close()
assert strikes > 20, strikes
np.save(path, np.stack(outputs))
"""


@pytest.mark.parametrize("seed", seeds.of(3))
def test_ctrl_c_at_random_times_loses_and_doubles_nothing(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray, tmp_path: Path, seed: int
) -> None:
    np.save(path := tmp_path / "frames.npy", frames)
    done = subprocess.run(
        [sys.executable, "-c", STRUCK, server.address, str(seed), str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert np.load(path).tobytes() == expected.tobytes()

"""The examples do what they say, while their server is killed and comes back."""

from __future__ import annotations

import itertools
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from tickcell.cli import comparison, samples, server_process
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session
from tickcell.model import Bundle

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NODE = EXAMPLES / "node"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server that nobody kills."""
    with server_process.temporary() as process:
        yield process


@pytest.fixture
def mortal_server() -> Iterator[ServerProcess]:
    """A server to kill and to start again."""
    with server_process.temporary() as process:
        yield process


def _printed(name: str, *arguments: str) -> list[str]:
    """Runs an example to its end; returns the lines that it printed."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def _rows(lines: IO[str], count: int) -> list[tuple[int, float | None]]:
    """Reads some lines of a step and its output, which may be missing."""
    rows = [line.strip().split(",") for line in itertools.islice(lines, count)]
    assert len(rows) == count, "it ended early"
    return [(int(step), float(output) if output else None) for step, output in rows]


def _recovered(lines: IO[str]) -> list[tuple[int, float | None]]:
    """Reads lines until one has an output again."""
    rows: list[tuple[int, float | None]] = []
    while not rows or rows[-1][1] is None:
        rows += _rows(lines, 1)
    return rows


def test_agent_eases_its_car_and_leaves_no_session(server: ServerProcess) -> None:
    (line,) = _printed("agent.py", server.address, "2")
    ticks, _, eased, *_ = line.replace(",", "").split()
    # An eased car takes longer for its way.
    assert int(ticks) >= 99
    assert 0 <= int(eased) <= int(ticks)


def test_agents_of_asyncio_drive_side_by_side(server: ServerProcess) -> None:
    lines = sorted(_printed("async_agent.py", server.address, "2"))
    rows = [line.replace(",", "").replace(":", "").split() for line in lines]
    assert [car for _, car, *_ in rows] == ["0", "1", "2", "3"]
    assert all(int(ticks) >= 99 for _, _, ticks, *_ in rows)


def test_gateway_drives_all_its_cars_to_their_ends(server: ServerProcess) -> None:
    (line,) = _printed("gateway.py", server.address, "2", "20")
    cars, _, steps, *_ = line.replace(",", "").split()
    assert int(cars) == 20
    assert int(steps) >= 20 * 99


@pytest.mark.parametrize("autoreset", ["NextStep", "SameStep"])
def test_drives_of_a_vector_are_each_a_loop_of_its_own(
    server: ServerProcess, autoreset: str
) -> None:
    lines = _printed("vector_env.py", server.address, autoreset, "350")
    example = runpy.run_path(str(EXAMPLES / "vector_env.py"))
    cell = Bundle.load().cell()
    for number in range(example["CARS"]):
        got = [line for line in lines if line.startswith(f"car {number}:")]
        assert len(got) > 1
        car = example["Car"]()
        for index, line in enumerate(got):
            # Its seed is of all its drives.
            frame, _ = car.reset(seed=None if index else 1 + number)
            state, rewards, is_over = cell.initial_state(), 0.0, False
            while not is_over:
                output, state = cell.step(frame, state)
                frame, reward, is_over, *_ = car.step(output[0] >= example["THRESHOLD"])
                rewards += reward
            assert line == f"car {number}: {rewards:.6f}"


def test_agent_has_thirty_lines() -> None:
    _, _, code = (EXAMPLES / "agent.py").read_text(encoding="utf-8").split('"""', 2)
    assert len([line for line in code.splitlines() if line.strip()]) <= 30


def _node(server: ServerProcess) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, EXAMPLES / "imu_node.py", "robot-7", server.address],
        stdout=subprocess.PIPE,
        text=True,
    )


def _stopped(node: subprocess.Popen[str]) -> list[tuple[int, float | None]]:
    node.send_signal(signal.SIGTERM)
    assert node.stdout is not None
    rest = node.stdout.read().splitlines(keepends=True)
    assert node.wait(60) == 0
    return _rows(iter(rest), len(rest))  # type: ignore[arg-type]  # an iterator is enough


def _held(count: int) -> np.ndarray:
    """The first frames of the simulated IMU, as they are where its dropouts are held."""
    imu = runpy.run_path(str(EXAMPLES / "imu_node.py"))["readings"]()
    frames = np.stack(list(itertools.islice(imu, count)))
    for index in np.flatnonzero(np.isnan(frames[:, 8])):
        frames[index, 8] = frames[index - 1, 8]
    return frames


def test_node_loses_no_frame_though_its_server_and_itself_are_away(
    mortal_server: ServerProcess,
) -> None:
    with _node(mortal_server) as node:
        assert node.stdout is not None
        first = _rows(node.stdout, 110)
        mortal_server.kill()
        first += _rows(node.stdout, 10)
        mortal_server.restart()
        first += _recovered(node.stdout)
        first += _stopped(node)
    with _node(mortal_server) as node:
        assert node.stdout is not None
        second = _rows(node.stdout, 10)
        second += _stopped(node)

    rows = first + second
    assert [step for step, _ in rows] == list(range(len(rows)))
    with Session.attach(mortal_server.address, "robot-7") as session:
        assert session.next_step == len(rows)
    frames = np.concatenate([_held(len(first)), _held(len(second))])
    expected = comparison.loop(Bundle.load().cell(), frames)
    got = {step: output for step, output in rows if output is not None}
    assert len(got) > 50
    assert got == {step: float(expected[step, 0]) for step in got}


@pytest.fixture
def node_js() -> str:
    """The command of Node.js, where the example's packages are installed."""
    command = shutil.which("node")
    if command is None:
        pytest.skip("no Node.js: apt-get install nodejs npm")
    if not (NODE / "node_modules").is_dir():
        pytest.skip("no packages of Node.js: npm ci --prefix examples/node")
    return command


def test_client_in_another_language_gives_the_outputs_of_the_plain_loop(
    mortal_server: ServerProcess, node_js: str
) -> None:
    recording = samples.shipped()
    sample = subprocess.run(
        [sys.executable, "-m", "tickcell.cli", "sample"], capture_output=True, text=True, check=True
    ).stdout.splitlines(keepends=True)[:201]
    with subprocess.Popen(
        [node_js, NODE / "replay.js", mortal_server.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as replay:
        assert replay.stdin is not None
        assert replay.stdout is not None
        replay.stdin.writelines(sample[:101])
        replay.stdin.flush()
        rows = _rows(replay.stdout, 100)
        mortal_server.kill()
        replay.stdin.writelines(sample[101:])
        replay.stdin.close()
        mortal_server.restart()
        rows += _rows(replay.stdout, 100)
        assert replay.wait(60) == 0
    expected = comparison.loop(Bundle.load().cell(), recording.frames[:200])
    assert rows == [(step, float(output)) for step, (output, *_) in enumerate(expected)]

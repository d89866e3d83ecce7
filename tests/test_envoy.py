"""The Envoy that is delivered, before two servers of one store: kept together, and nothing lost."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from doubles import envoy_process
from doubles.envoy_process import EnvoyProcess
from tickcell.cli import comparison
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, methods
from tickcell.model import Bundle

ROBOTS = 8
RATE_HZ = 50
# Ticks before something happens to them, and in all.
BEFORE, ALL = 40, 160


class Plant:
    """Two servers of one store, behind Envoy."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        directory = pathlib.Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="tickcell-"))
        )
        self.servers = [
            stack.enter_context(ServerProcess(directory, listen="127.0.0.1:0")) for _ in range(2)
        ]
        addresses = [server.address for server in self.servers]
        self.envoy = stack.enter_context(EnvoyProcess(directory, addresses))


@pytest.fixture
def plant() -> Iterator[Plant]:
    with contextlib.ExitStack() as stack:
        yield Plant(stack)


@pytest.fixture(scope="module")
def quiet_plant() -> Iterator[Plant]:
    """One to which nothing happens."""
    with contextlib.ExitStack() as stack:
        yield Plant(stack)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def test_configuration_is_one() -> None:
    command = [envoy_process.program(), "--mode", "validate", "--config-path", "envoy.yaml"]
    done = subprocess.run(
        command,
        cwd=envoy_process.CONFIGURATION,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_all_calls_of_a_session_go_to_one_server(quiet_plant: Plant, bundle: Bundle) -> None:
    envoy, frames = quiet_plant.envoy, bundle.golden.frames
    chosen = set()
    for _ in range(10):
        before = envoy.calls()
        with Session.create(envoy.address) as session:
            session.step(frames[0])
            list(session.stream(frames[1:5]))
            # On a connection of its own.
            other = Session.attach(envoy.address, session.id)
            other.step(frames[5])
            other.detach()
        given = {address: count for address, count in (envoy.calls() - before).items() if count}
        # Created, stepped, streamed, asked for, stepped, deleted.
        assert list(given.values()) == [6]
        chosen |= set(given)
    assert len(chosen) == 2


def test_an_idle_stream_is_kept(quiet_plant: Plant) -> None:
    has_ended, is_over = threading.Event(), threading.Event()

    def requests() -> Iterator[bytes]:
        is_over.wait(60)
        yield from ()

    with grpc.insecure_channel(quiet_plant.envoy.address) as channel:
        stream: Any = channel.stream_stream(methods.STREAM_STEPS.path)
        call = stream(requests(), metadata=[("x-session-id", "car")])
        call.add_callback(has_ended.set)
        # A server that does not let itself be asked so often ended it after four questions.
        assert not has_ended.wait(7), call.details()
        is_over.set()
        assert list(call) == []


def kill(plant: Plant) -> None:
    plant.servers[0].kill()


def drain(plant: Plant) -> None:
    plant.servers[0].stop()


def restart_envoy(plant: Plant) -> None:
    plant.envoy.kill()
    plant.envoy.start()


def take_out(plant: Plant) -> None:
    plant.envoy.list([plant.servers[1].address])


@pytest.mark.parametrize("happens", [kill, drain, restart_envoy, take_out])
def test_whatever_ends_no_bit_differs(
    plant: Plant, bundle: Bundle, happens: Callable[[Plant], None]
) -> None:
    robots = [Robot(plant.envoy.address, bundle, index) for index in range(ROBOTS)]
    drive(robots, lambda: happens(plant))
    # Each is somewhere: Envoy and a server, or two, take a moment to come back.
    assert max(robot.longest_gap_s for robot in robots) < 10


def test_a_server_that_stands_still_is_left_without_its_clients_deadline(
    plant: Plant, bundle: Bundle
) -> None:
    with contextlib.ExitStack() as stack:
        # They would wait for a minute: it is Envoy that ends their streams.
        robots = [Robot(plant.envoy.address, bundle, index, 60) for index in range(ROBOTS)]
        drive(robots, lambda: stack.enter_context(plant.servers[0].paused()))
    assert max(robot.longest_gap_s for robot in robots) < 10


def drive(robots: list[Robot], happens: Callable[[], object]) -> None:
    """Lets something happen amid all drives, and compares all outputs with the plain loop's."""
    for robot in robots:
        robot.start()
    for robot in robots:
        assert robot.has_begun.wait(60)
    happens()
    for robot in robots:
        robot.join(120)
        assert len(robot.outputs) == ALL, robot.session.id
        expected = comparison.loop(robot.bundle.cell(), robot.frames)
        assert np.stack(robot.outputs).tobytes() == expected.tobytes(), robot.session.id
        robot.session.touch()
        assert robot.session.info.next_step == ALL
        robot.session.close()


class Robot(threading.Thread):
    """Drives by a stream."""

    def __init__(self, address: str, bundle: Bundle, index: int, deadline_s: float = 5.0) -> None:
        super().__init__(name=f"robot-{index}", daemon=True)
        self.bundle = bundle
        recording = itertools.islice(itertools.cycle(bundle.golden.frames), 7 * index, None)
        self.frames = np.stack(list(itertools.islice(recording, ALL)))
        self.session = Session.create(address, f"robot-{index}", deadline_s=deadline_s)
        self.outputs: list[np.ndarray] = []
        self.has_begun = threading.Event()
        self.longest_gap_s = 0.0

    def run(self) -> None:
        before = time.monotonic()
        for output in self.session.stream(self._paced()):
            now = time.monotonic()
            self.outputs.append(output)
            self.longest_gap_s = max(self.longest_gap_s, now - before)
            before = now
            if len(self.outputs) == BEFORE:
                self.has_begun.set()

    def _paced(self) -> Iterator[np.ndarray]:
        for frame in self.frames:
            yield frame
            time.sleep(1 / RATE_HZ)

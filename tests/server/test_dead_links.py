"""Streams whose links died without a word give their places up; a proxy may ask after them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from doubles.slow_link import SlowLink
from tickcell.cli import comparison
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, methods
from tickcell.model import Bundle

ROBOTS = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that has as many places as there are robots."""
    options = ("--max-streams", str(ROBOTS))
    with ServerProcess(tmp_path, *options, listen="127.0.0.1:0") as process:
        yield process


@pytest.fixture
def links(server: ServerProcess) -> Iterator[list[SlowLink]]:
    """A link for each robot."""
    opened = [SlowLink(server.address) for _ in range(ROBOTS)]
    yield opened
    for link in opened:
        link.close()


class Robot(threading.Thread):
    """Streams frames until it is told to stop, and keeps the outputs."""

    def __init__(self, link: SlowLink, frames: np.ndarray) -> None:
        super().__init__(name="robot", daemon=True)
        self._link = link
        self._frames = frames
        self.has_stopped = threading.Event()
        self.outputs: list[np.ndarray] = []
        # Released with each output.
        self.answers = threading.Semaphore(0)

    def run(self) -> None:
        # It gives up long before a server that waits a minute gives its place away.
        with Session.create(self._link.address, retry_for_s=20) as session:
            for output in session.stream(self._source()):
                self.outputs.append(output)
                self.answers.release()

    def _source(self) -> Iterator[np.ndarray]:
        for frame in itertools.cycle(self._frames):
            if self.has_stopped.wait(0.01):
                return
            yield frame


@pytest.mark.parametrize("away_s", [0.5, pytest.param(8.0, marks=pytest.mark.slow)])
def test_every_robot_comes_back_also_when_there_is_a_place_for_each_and_no_more(
    links: list[SlowLink], away_s: float
) -> None:
    bundle = Bundle.load()
    robots = [Robot(link, bundle.golden.frames[:100]) for link in links]
    for robot in robots:
        robot.start()
        assert robot.answers.acquire(timeout=30)
    for link in links:
        link.die()
    threading.Event().wait(away_s)
    answered = [len(robot.outputs) for robot in robots]
    for link in links:
        link.revive()
    for robot, count in zip(robots, answered, strict=True):
        while len(robot.outputs) <= count + 10:
            assert robot.answers.acquire(timeout=30)
    for robot in robots:
        robot.has_stopped.set()
    for robot in robots:
        robot.join(60)
        frames = np.resize(bundle.golden.frames[:100], (len(robot.outputs), 10))
        expected = comparison.loop(bundle.cell(), frames)
        assert np.stack(robot.outputs).tobytes() == expected.tobytes()


def test_a_proxy_may_ask_after_an_idle_stream_each_second(server: ServerProcess) -> None:
    asks = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ]
    has_ended, is_over = threading.Event(), threading.Event()

    def requests() -> Iterator[bytes]:
        is_over.wait(60)
        yield from ()

    with grpc.insecure_channel(server.address, asks) as channel:
        stream: Any = channel.stream_stream(methods.STREAM_STEPS.path)
        call = stream(requests())
        call.add_callback(has_ended.set)
        # It took four such questions.
        assert not has_ended.wait(7), call.details()
        is_over.set()
        assert list(call) == []

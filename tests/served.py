"""Fixtures of a real server and its model, and a network in front of it that fails on purpose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from doubles.awaited_session import AwaitedSession, TaskDrawingSession
from doubles.faulty_proxy import FaultyProxy
from tickcell.cli import comparison, server_process
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session
from tickcell.model import Bundle, LiteRTCell


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="session")
def cell(bundle: Bundle) -> LiteRTCell:
    return bundle.cell()


@pytest.fixture(scope="session")
def frames(bundle: Bundle) -> np.ndarray:
    """A few hundred frames, `[T, F]`."""
    return bundle.golden.frames[:300]


@pytest.fixture(scope="session")
def expected(cell: LiteRTCell, frames: np.ndarray) -> np.ndarray:
    """What the plain loop makes of the frames, `[T, O]`."""
    return comparison.loop(cell, frames)


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A server that nobody kills."""
    with server_process.temporary() as process:
        yield process


@pytest.fixture(scope="session")
def tcp_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that nobody kills, on every address of this machine."""
    directory = tmp_path_factory.mktemp("tcp-server")
    with ServerProcess(directory, "--insecure", listen="0.0.0.0:0") as process:
        yield process


@pytest.fixture
def mortal_server() -> Iterator[ServerProcess]:
    """A server to kill, pause and start again."""
    with server_process.temporary() as process:
        yield process


@pytest.fixture
def proxy(server: ServerProcess) -> Iterator[FaultyProxy]:
    """The server behind a network that fails when told."""
    opened = FaultyProxy(server.address)
    yield opened
    opened.close()


@pytest.fixture(
    scope="session",
    params=[Session, AwaitedSession, TaskDrawingSession],
    ids=["threads", "asyncio-threads", "asyncio-tasks"],
)
def drawing_sessions(request: pytest.FixtureRequest) -> type[Session]:
    """Makes sessions that draw by a thread, or with asyncio by a thread or by a task."""
    driven: type[Session] = request.param
    return driven


@pytest.fixture(scope="session", params=[Session, AwaitedSession], ids=["threads", "asyncio"])
def sessions(request: pytest.FixtureRequest) -> type[Session]:
    """Makes sessions with threads, or with asyncio."""
    driven: type[Session] = request.param
    return driven

"""A real server for the client's tests, and a network in front of it that fails on purpose."""

from __future__ import annotations

import pytest

from doubles.faulty_proxy import FaultyProxy
from tickcell.client import comparison, server_process
from tickcell.model import Bundle


@pytest.fixture(scope="session")
def bundle():
    return Bundle.load()


@pytest.fixture(scope="session")
def cell(bundle):
    return bundle.cell()


@pytest.fixture(scope="session")
def frames(bundle):
    """A few hundred frames, `[T, F]`."""
    return bundle.golden.frames[:300]


@pytest.fixture(scope="session")
def expected(cell, frames):
    """What the plain loop makes of the frames, `[T, O]`."""
    return comparison.loop(cell, frames)


@pytest.fixture(scope="session")
def server():
    """A server that nobody kills."""
    with server_process.temporary() as process:
        yield process


@pytest.fixture
def mortal_server():
    """A server to kill, pause and start again."""
    with server_process.temporary() as process:
        yield process


@pytest.fixture
def proxy(server):
    """The server behind a network that fails when told."""
    opened = FaultyProxy(server.address)
    yield opened
    opened.close()

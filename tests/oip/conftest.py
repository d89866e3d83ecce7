"""A server of two counting models, its store and clock, and a caller of its protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from doubles.interrupted_store import InterruptedStore
from doubles.manual_clock import ManualClock
from doubles.moody_cell import MoodyCell
from tickcell.conformance.caller import Caller
from tickcell.conformance.peer import Peer, PeerStream


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def records(clock: ManualClock) -> InterruptedStore:
    return InterruptedStore(clock)


@pytest.fixture
def server(records: InterruptedStore) -> Iterator[InProcessServer]:
    """Serves `counting`, versions 1 and 2 of `other`, and a model whose version is a word."""
    models = [
        served(MoodyCell()),
        served(CountingCell(), "other", "1"),
        served(CountingCell(), "other", "2"),
        served(CountingCell(), "worded", "first"),
    ]
    with InProcessServer(models, records) as running:
        yield running


@pytest.fixture
def peer(server: InProcessServer) -> Iterator[Peer]:
    with Peer(server.address) as opened:
        yield opened


@pytest.fixture(params=["unary", "stream"])
def path(request: pytest.FixtureRequest, peer: Peer) -> Iterator[Peer | PeerStream]:
    """Each of the two ways to infer."""
    if request.param == "unary":
        yield peer
        return
    with PeerStream(peer) as stream:
        yield stream


@pytest.fixture
def native(server: InProcessServer) -> Iterator[Caller]:
    """A caller of the native protocol."""
    with Caller(server.address) as opened:
        yield opened

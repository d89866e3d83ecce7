"""A link whose round trip is nearly as long as a call may take."""

from __future__ import annotations

import numpy as np

from doubles.slow_link import SlowLink
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session


def test_a_deadline_shorter_than_connecting_takes_is_met_once_there_is_a_connection(
    tcp_server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    """Connecting takes a round trip, and a call another: together more than the deadline."""
    link = SlowLink(f"127.0.0.1:{tcp_server.address.rpartition(':')[2]}", round_trip_s=0.6)
    try:
        with Session.create(link.address, deadline_s=1.0, retry_for_s=20) as session:
            outputs = [session.step(frame) for frame in frames[:3]]
            outputs += session.stream(frames[3:10])
        # One for the steps and one for the stream, each made once.
        assert link.connections == 2
    finally:
        link.close()
    assert np.stack(outputs).tobytes() == expected[:10].tobytes()

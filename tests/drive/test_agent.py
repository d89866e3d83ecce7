"""Cars that tick together are supervised as each would be alone."""

from __future__ import annotations

import dataclasses

import numpy as np

from tickcell.cli import server_process
from tickcell.client import Session
from tickcell.drive.agent import Agent, Trace

SECONDS = 20.0
SEEDS = range(1, 5)
# Low, so that some are eased and the drives are not of one length.
THRESHOLD = 0.2


def driven(trace: Trace) -> dict[str, object]:
    """What a drive was like, but for the time that its outputs took."""
    return {**dataclasses.asdict(trace), "latencies_s": len(trace.latencies_s)}


def test_each_of_several_cars_drives_as_it_would_alone() -> None:
    with server_process.temporary() as server:
        with Session.create(server.address, series_count=len(SEEDS)) as session:
            together = Agent(session, THRESHOLD).drive_fast(SEEDS, SECONDS)
        alone = []
        for seed in SEEDS:
            with Session.create(server.address) as session:
                alone += Agent(session, THRESHOLD).drive_fast([seed], SECONDS)
    assert [driven(trace) for trace in together] == [driven(trace) for trace in alone]
    assert len({len(trace.outputs) for trace in together}) > 1
    assert any(np.any(trace.eased) for trace in together)


def test_in_real_time_a_tick_is_late_for_all_cars_or_for_none() -> None:
    with (
        server_process.temporary() as server,
        Session.create(server.address, series_count=2) as session,
    ):
        traces = Agent(session, THRESHOLD).drive_in_real_time([1, 2], 2.0, rate_hz=100)
    late = [np.isinf(trace.latencies_s) for trace in traces]
    shortest = min(map(len, late))
    assert late[0][:shortest].tolist() == late[1][:shortest].tolist()

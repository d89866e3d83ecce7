"""Many agents in one process lose no tick and double none, whenever their tasks are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

import async_crowd
from tickcell.cli import comparison, server_process
from tickcell.model import Bundle

RATE_HZ = 10.0
RECORDINGS = 8


@pytest.mark.parametrize(
    ("agent_count", "seconds", "left_alone_s"),
    [(50, 3, 4.0), pytest.param(500, 60, 30.0, marks=pytest.mark.slow)],
)
def test_agents_that_are_cancelled_and_attached_again_have_the_outputs_of_the_loop(
    agent_count: int,
    seconds: int,
    left_alone_s: float,
    record_property: Callable[[str, object], None],
) -> None:
    bundle = Bundle.load()
    ticks = round(seconds * RATE_HZ)
    frames = np.resize(bundle.golden.frames, (ticks + RECORDINGS, bundle.golden.frames.shape[1]))
    recordings = [
        (part, comparison.loop(bundle.cell(), part))
        for part in (frames[start : start + ticks] for start in range(RECORDINGS))
    ]
    with server_process.temporary() as server:
        counts = asyncio.run(
            async_crowd.drive(
                server.address,
                recordings,
                agent_count=agent_count,
                rate_hz=RATE_HZ,
                left_alone_s=left_alone_s,
                seed=1,
            )
        )
    print(counts)
    record_property("counts", str(counts))
    # Each tick had its own output in time, or was late.
    assert counts.compared + counts.late == counts.ticks
    assert counts.compared > 0
    assert counts.cancelled > counts.attached > 0

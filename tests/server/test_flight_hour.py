"""A long drive of many sessions, recorded while the server is killed and the disk fills."""

from __future__ import annotations

import asyncio
import os
import pathlib
from typing import NamedTuple

import numpy as np
import pytest

from server.flight_runs import rerun
from server.small_disk import fill, mounted
from tickcell.cli.server_process import ServerProcess
from tickcell.client import AsyncSession
from tickcell.model import Bundle

RATE_HZ = 50.0
SESSIONS = 20
# Of the disk, some of which is filled with something else.
DISK_BYTES = 2**30
# A second of each session is more than a kill may cost.
LOST_STEPS = SESSIONS * round(RATE_HZ)


class Drive(NamedTuple):
    """How long a drive is.

    Attributes:
      seconds: of the drive.
      kill_s: how often the server is killed.
      full_s: for how long the disk is full, in the middle.
    """

    seconds: float
    kill_s: float
    full_s: float


HOUR = Drive(float(os.environ.get("FLIGHT_SECONDS", "3600")), 60.0, 30.0)


@pytest.mark.parametrize(
    "drive", [Drive(12.0, 4.0, 2.0), pytest.param(HOUR, marks=pytest.mark.slow)], ids=str
)
def test_drive_through_kills_and_a_full_disk_agrees_but_for_what_is_named(
    tmp_path: pathlib.Path, drive: Drive
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, DISK_BYTES):
        flights = disk / "flights"
        with ServerProcess(tmp_path, "--record", str(flights), listen="localhost:0") as server:
            applied, kills = asyncio.run(_driven(server, disk, drive))
            server.stop()
        found = rerun(flights)
        taken = sum(path.stat().st_size for path in flights.iterdir())
    found.check()
    begun = sum(each.next_step for line in found.lines for each in line.unknown)
    print(
        f"{applied} steps, {kills} kills: {found.step_count} in {len(found.segments)} segments, "
        f"{found.missing_count} missing in {sum(len(line.gaps) for line in found.lines)} gaps, "
        f"{found.dropped_count} of them counted; {taken / found.step_count:.1f} bytes a step"
    )
    assert len(found.lines) == SESSIONS
    assert begun + found.step_count + found.missing_count == applied
    assert found.dropped_count > 0
    assert begun + found.missing_count - found.dropped_count <= kills * LOST_STEPS


async def _driven(server: ServerProcess, disk: pathlib.Path, drive: Drive) -> tuple[int, int]:
    """Drives; returns how many steps were applied, and how often the server was killed."""
    frames = Bundle.load().golden.frames
    is_over = asyncio.Event()
    agents = [
        asyncio.create_task(_agent(server.address, f"car-{number}", frames, is_over))
        for number in range(SESSIONS)
    ]
    kills = 0
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    is_filled = False
    while (now_s := loop.time() - start_s) < drive.seconds:
        await asyncio.sleep(drive.kill_s)
        if not is_filled and now_s >= drive.seconds / 2 - drive.kill_s:
            is_filled = True
            await asyncio.to_thread(fill, disk / "filler")
            await asyncio.sleep(drive.full_s)
            (disk / "filler").unlink()
            # What was dropped is counted once it is written again.
            await asyncio.sleep(2.0)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.restart)
        kills += 1
    await asyncio.sleep(1.0)
    is_over.set()
    return sum(await asyncio.gather(*agents)), kills


async def _agent(address: str, name: str, frames: np.ndarray, is_over: asyncio.Event) -> int:
    """Steps at the rate, and catches up after a pause; returns the steps."""
    session = await AsyncSession.create(address, name, retry_for_s=None)
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    while not is_over.is_set():
        due_s += 1 / RATE_HZ
        await session.step(frames[session.next_step % len(frames)])
        await asyncio.sleep(max(0.0, due_s - loop.time()))
    steps = session.next_step
    await session.detach()
    return steps

"""A server's start, and the memory that it holds once streams have ticked."""

from __future__ import annotations

import asyncio
import pathlib
import tempfile
import time
from typing import TYPE_CHECKING

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench import caller
from bench.row import Row, at_most
from tickcell.cli.server_process import ServerProcess

if TYPE_CHECKING:
    from bench.row import Effort
    from tickcell.model import Bundle

_STREAMS = 32
_TICKS = 200


def rows(bundle: Bundle, effort: Effort) -> list[Row]:
    """Measures row 12: `tickcell serve` on a new store each time, with its defaults."""
    times_s, memory_mb = [], []
    for _ in range(effort.starts):
        with tempfile.TemporaryDirectory(prefix="tickcell-bench-") as directory:
            begin = time.perf_counter()
            with ServerProcess(pathlib.Path(directory)) as server:
                hold_serving(server.address)
                times_s.append(time.perf_counter() - begin)
                asyncio.run(_tick(server.address, bundle))
                memory_mb.append(resident_mb(server.pid))
    return [
        Row(
            12,
            "start to SERVING",
            float(np.median(times_s)),
            at_most(0.5),
            "s",
            f"{min(times_s):.2f} to {max(times_s):.2f} in {len(times_s)} starts",
        ),
        Row(
            12,
            f"RSS after {_STREAMS} streams of {_TICKS} ticks",
            float(np.median(memory_mb)),
            at_most(100),
            "MB",
            f"{min(memory_mb):.0f} to {max(memory_mb):.0f}",
        ),
    ]


def hold_serving(address: str) -> None:
    """Raises RuntimeError unless health says that the server serves."""
    with grpc.insecure_channel(address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise RuntimeError(f"{address}: has started, and does not serve.")


def resident_mb(pid: int) -> float:
    """Returns the memory of a process that is resident, in MB of 1,000,000 bytes."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"the process {pid} has ended.")


async def _tick(address: str, bundle: Bundle) -> None:
    async with grpc.aio.insecure_channel(address) as channel:

        async def drive() -> None:
            session = await caller.Session.create(channel, bundle.golden.frames)
            stream = caller.Stream(channel, caller.TICKS)
            for step in range(_TICKS):
                caller.output(await stream.exchange(session.request(step)))
            await stream.close()

        await asyncio.gather(*[drive() for _ in range(_STREAMS)])

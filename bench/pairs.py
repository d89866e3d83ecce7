"""A tick and an echo, alternating: how long each takes, one at a time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray

from bench import caller, echo, serving
from bench.row import Row
from tickcell.model import Bundle

if TYPE_CHECKING:
    from bench.row import Effort

# So that nothing is still cold for the first time.
_WARM_UP = 200


def rows(bundle: Bundle, effort: Effort) -> list[Row]:
    """Measures row 8."""
    found = []
    for how, idle_streams, durability in (
        ("alone", 0, None),
        ("a second stream open", 1, None),
        ("--durability power-loss", 0, "power-loss"),
    ):
        with serving.serving(durability=durability) as server:
            measuring = measure(server.address, bundle, effort.pairs, idle_streams=idle_streams)
            measured = asyncio.run(measuring)
        for percent in (50, 99):
            echo_us, tick_us = measured.percentile(percent)
            beside = f"{tick_us:.0f} us, echo {echo_us:.0f} us"
            name = f"a tick over an echo, {how}, p{percent}"
            found.append(Row(8, name, tick_us / echo_us, beside=beside))
    return found


class Pairs(NamedTuple):
    """Round trips in microseconds, `[N]` each: the n-th echo is just before the n-th tick."""

    echoes: NDArray[np.float64]
    ticks: NDArray[np.float64]

    def percentile(self, percent: float) -> tuple[float, float]:
        """Returns that of the echoes and that of the ticks."""
        return float(np.percentile(self.echoes, percent)), float(np.percentile(self.ticks, percent))


async def measure(address: str, bundle: Bundle, count: int, *, idle_streams: int = 0) -> Pairs:
    """Sends so many echoes and ticks, alternating; holds the outputs to the cell's own.

    Args:
      address: of the server.
      bundle: the model that it serves.
      count: of the echoes, and of the ticks.
      idle_streams: how many other streams are open, on which one tick was sent.
    """
    async with grpc.aio.insecure_channel(address) as channel:
        others = []
        for _ in range(idle_streams):
            other = await caller.Session.create(channel, bundle.golden.frames)
            others.append(caller.Stream(channel, caller.TICKS))
            caller.output(await others[-1].exchange(other.request(0)))
        session = await caller.Session.create(channel, bundle.golden.frames)
        echoes = caller.Stream(channel, echo.METHOD)
        ticks = caller.Stream(channel, caller.TICKS)
        times = np.empty((2, _WARM_UP + count))
        responses = []
        for step in range(_WARM_UP + count):
            request = session.request(step)
            start = time.perf_counter()
            await echoes.exchange(request)
            times[0, step] = time.perf_counter() - start
            start = time.perf_counter()
            response = await ticks.exchange(request)
            times[1, step] = time.perf_counter() - start
            responses.append(response)
        await echoes.close()
        await ticks.close()
        for stream in others:
            await stream.close()
    _hold(session, bundle, responses)
    return Pairs(*(1e6 * times[:, _WARM_UP:]))


def _hold(session: caller.Session, bundle: Bundle, responses: list[bytes]) -> None:
    """Raises RuntimeError unless the outputs are those of the loop in process."""
    cell = bundle.cell()
    state = cell.initial_state()
    for step, response in enumerate(responses):
        output, state = cell.step(session.frame(step), state)
        if output.tobytes() != caller.output(response):
            raise RuntimeError(f"step {step} has another output than the cell in process.")

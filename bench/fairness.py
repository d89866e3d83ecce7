"""Ticks of a 50 Hz session beside callers that bring much: how many come late."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import NamedTuple

import click
import grpc
import numpy as np

from bench import caller, crowd, machine, serving
from tickcell.model import Bundle

_PERIOD_S = 0.02
_TICKS = 250
_BESIDE = (
    ("nobody", "", 0),
    ("1 bulk caller", "bulk", 1),
    ("16 bulk callers", "bulk", 16),
    ("200 bulk callers", "bulk", 200),
    ("1 gateway of 256", "gateways", 1),
    ("16 gateways of 256", "gateways", 16),
    ("a lister of 1,000", "lists", 1),
    ("4 creators of 1,000 series", "creates", 4),
)


class Ticks(NamedTuple):
    """How long each tick took, in milliseconds, and how many came after the next one was due."""

    times_ms: np.ndarray
    late: int


async def measure(address: str, bundle: Bundle) -> Ticks:
    """Sends a tick each 20 ms over one stream, at its time whatever became of the last."""
    async with grpc.aio.insecure_channel(address) as channel:
        session = await caller.Session.create(channel, bundle.golden.frames)
        stream = caller.Stream(channel, caller.TICKS)
        caller.output(await stream.exchange(session.request(0)))
        times = []
        begin = time.perf_counter() + _PERIOD_S
        for tick in range(1, _TICKS + 1):
            due = begin + tick * _PERIOD_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            caller.output(await stream.exchange(session.request(tick)))
            times.append(time.perf_counter() - due)
        await stream.close()
    taken = 1e3 * np.array(times)
    return Ticks(taken, int((taken > 1e3 * _PERIOD_S).sum()))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measures the ticks of a 50 Hz session beside callers that bring much."""
    bundle = Bundle.load()
    click.echo(f"{machine.describe()}\nload before: {machine.load()}\n")
    click.echo(f"{'beside':28}{'p50 ms':>8}{'p99 ms':>8}{'max ms':>8}{f'late of {_TICKS}':>14}")
    for name, kind, count in _BESIDE:
        with serving.served() as address, contextlib.ExitStack() as stack:
            if count:
                stack.enter_context(crowd.calling(address, kind, count))
            ticks = asyncio.run(measure(address, bundle))
        p50, p99 = np.percentile(ticks.times_ms, (50, 99))
        most = ticks.times_ms.max()
        click.echo(f"{name:28}{p50:8.1f}{p99:8.1f}{most:8.1f}{ticks.late:14}")
    click.echo(f"\nload after: {machine.load()}")


if __name__ == "__main__":
    main()

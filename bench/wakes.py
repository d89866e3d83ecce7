"""What it costs a tick to wake threads: servers that wake more of them and less, in turns.

One has gRPC's event engine, as grpcio comes; the others leave it off, as `tickcell serve`
does, and look for events before they sleep, for longer and longer.

python -m bench.wakes
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import NamedTuple

import click
import grpc
import numpy as np

from bench import caller, callers, cpu, machine, pairs, serving
from tickcell.model import Bundle

_ROUNDS = 6
_PERIOD_S = 0.02


class Measured(NamedTuple):
    """Of one server, in one round.

    Attributes:
      tick_p50_us, tick_p99_us: of single ticks on a stream of `grpc.aio`, one at a time.
      paced_p50_us: of the same ticks, 50 a second.
      step_p50_us: of `Session.step`.
      cpu_us: the server's processor time a tick, of a stream alone.
      cpu_of_many_us: the same, of 32 streams at once.
    """

    tick_p50_us: float
    tick_p99_us: float
    paced_p50_us: float
    step_p50_us: float
    cpu_us: float
    cpu_of_many_us: float


def measure(server: serving.Serving, bundle: Bundle, count: int) -> Measured:
    """Asks a server for so many ticks, in each way."""
    ticks = asyncio.run(pairs.measure(server.address, bundle, count)).ticks
    steps = callers.session_steps(server.address, bundle, count // 2).ticks
    side = [(server, caller.TICKS)]
    one, many = (
        float(asyncio.run(cpu.measure(side, streams, 1, count // streams))[0, 0])
        for streams in (1, 32)
    )
    paced = asyncio.run(_paced(server.address, bundle, count // 10))
    p50, p99 = np.percentile(ticks, (50, 99))
    return Measured(
        float(p50), float(p99), float(np.median(paced)), float(np.median(steps)), one, many
    )


async def _paced(address: str, bundle: Bundle, count: int) -> list[float]:
    """Returns what so many ticks took, in microseconds, each due 20 ms after the one before."""
    times = []
    async with grpc.aio.insecure_channel(address) as channel:
        session = await caller.Session.create(channel, bundle.golden.frames)
        stream = caller.Stream(channel, caller.TICKS)
        for step in range(count):
            await asyncio.sleep(_PERIOD_S)
            request = session.request(step)
            begin = time.perf_counter()
            response = await stream.exchange(request)
            times.append(1e6 * (time.perf_counter() - begin))
            caller.output(response)
        await stream.close()
    return times


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--busy-poll-us", "of_each", default="0,100,300,1000", show_default=True)
@click.option("--pairs", default=1_000, show_default=True, help="Echoes and ticks in a round.")
def main(of_each: str, pairs: int) -> None:
    """Measures ticks of servers that take turns."""
    bundle = Bundle.load()
    click.echo(f"{machine.describe()}\nload before: {machine.load()}\n")
    with contextlib.ExitStack() as stack:
        servers = {
            "event engine": stack.enter_context(serving.serving(leaves_off_engine=False)),
            **{
                f"busy poll {each} us": stack.enter_context(
                    serving.serving(busy_poll_us=float(each))
                )
                for each in of_each.split(",")
            },
        }
        found: dict[str, list[Measured]] = {name: [] for name in servers}
        for _ in range(_ROUNDS):
            for name, server in servers.items():
                found[name].append(measure(server, bundle, pairs))
    click.echo(f"{'':20}" + "".join(f"{name:>17}" for name in Measured._fields))
    for name, rounds in found.items():
        middle = np.median(rounds, axis=0)
        click.echo(f"{name:20}" + "".join(f"{value:17.0f}" for value in middle))
    click.echo(f"\nload after: {machine.load()}")


if __name__ == "__main__":
    main()

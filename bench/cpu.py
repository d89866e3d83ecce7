"""What a tick costs the server in processor time, beside an echo or in another checkout.

Two trees that differ in one thing tell what that thing costs, on a shared machine too:
both serve all the time, and are asked one after the other in blocks of a few tenths of a
second, so that what slows one down slows the other down as well. An echo is asked of the
same server.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import grpc
import numpy as np

from bench import caller, echo, machine, serving
from bench.row import Row, at_most
from tickcell.model import Bundle

if TYPE_CHECKING:
    from bench.row import Effort

# So that nothing is still cold for the first time.
_WARM_UP = 50
# In a block of one side, of all streams together.
_BLOCK_TICKS = 1536


def rows(_: Bundle, effort: Effort) -> list[Row]:
    """Measures row 7: over an echo of the same server, and of one with gRPC as it comes."""
    found = []
    for stream_count in (32, 256):
        count = max(1, _BLOCK_TICKS // stream_count)
        with serving.serving() as server, serving.serving(leaves_off_engine=False) as plain:
            sides = ((server, caller.TICKS), (server, echo.METHOD), (plain, echo.METHOD))
            times = asyncio.run(measure(sides, stream_count, effort.blocks, count))
        tick_us, *echoes_us = np.median(times, axis=0)
        for place, (whose, aim) in enumerate(
            (("an echo's", at_most(1.35)), ("a plain echo's", None))
        ):
            found.append(
                Row(
                    7,
                    f"server's CPU a tick over {whose}, {stream_count} streams",
                    float(np.median(times[:, 0] / times[:, 1 + place])),
                    aim,
                    beside=f"{tick_us:.0f} us, echo {echoes_us[place]:.0f} us",
                )
            )
    return found


class _Load:
    """So many streams of a method on one server, one message in flight on each."""

    def __init__(self, server: serving.Serving, channel: grpc.aio.Channel, method: str) -> None:
        self._server = server
        self._channel = channel
        self._method = method
        self._streams: list[tuple[caller.Session, caller.Stream]] = []
        self._step = 0

    async def open(self, bundle: Bundle, stream_count: int) -> None:
        """Opens the streams, and warms them up."""
        for _ in range(stream_count):
            session = await caller.Session.create(self._channel, bundle.golden.frames)
            self._streams.append((session, caller.Stream(self._channel, self._method)))
        await self.tick_us(_WARM_UP)

    async def tick_us(self, count: int) -> float:
        """Ticks so often on each stream; returns the server's processor time a tick."""
        begin_ns = self._server.cpu_ns()
        await asyncio.gather(*[self._tick(*each, count) for each in self._streams])
        self._step += count
        return (self._server.cpu_ns() - begin_ns) / 1e3 / (count * len(self._streams))

    async def close(self) -> None:
        """Ends the streams."""
        for _, stream in self._streams:
            await stream.close()

    async def _tick(self, session: caller.Session, stream: caller.Stream, count: int) -> None:
        response = b""
        for step in range(self._step, self._step + count):
            response = await stream.exchange(session.request(step))
        if self._method == caller.TICKS:
            # A refusal would be followed by refusals.
            caller.output(response)


async def measure(
    sides: Sequence[tuple[serving.Serving, str]], stream_count: int, blocks: int, count: int
) -> np.ndarray:
    """Returns the processor time a message of each side in each block, `[N, sides]`, in us.

    Args:
      sides: of each, a server and the method that is asked of it.
      stream_count: streams of each side.
      blocks: N.
      count: messages of a stream in a block.
    """
    bundle = Bundle.load()
    times = []
    async with contextlib.AsyncExitStack() as stack:
        loads = []
        for server, method in sides:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            loads.append(_Load(server, channel, method))
            await loads[-1].open(bundle, stream_count)
        for block in range(blocks):
            # Each goes first as often as the others.
            first = block % len(loads)
            found = [0.0] * len(loads)
            for index in [*range(first, len(loads)), *range(first)]:
                found[index] = await loads[index].tick_us(count)
            times.append(found)
        for load in loads:
            await load.close()
    return np.array(times)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--beside",
    type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path),
    default=serving.HERE,
    help="The other checkout. [default: this one, which shows how exact the ratio is]",
)
@click.option("--echo", "is_echo", is_flag=True, help="Beside the echo of this checkout instead.")
@click.option("--streams", default=32, show_default=True, help="Streams on each server.")
@click.option("--blocks", default=40, show_default=True, help="Blocks on each server.")
@click.option("--ticks", default=60, show_default=True, help="Ticks of a stream in a block.")
def main(beside: pathlib.Path, is_echo: bool, streams: int, blocks: int, ticks: int) -> None:
    """Measures what a tick costs the server in processor time, beside another checkout."""
    click.echo(f"{machine.describe()}\nload before: {machine.load()}\n")
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(serving.serving())
        if is_echo:
            other = (here, echo.METHOD)
        else:
            other = (stack.enter_context(serving.serving(beside.resolve())), caller.TICKS)
        times = asyncio.run(measure(((here, caller.TICKS), other), streams, blocks, ticks))
    ratios = times[:, 0] / times[:, 1]
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    click.echo(f"here    {np.median(times[:, 0]):8.1f} us of the server a tick")
    click.echo(f"beside  {np.median(times[:, 1]):8.1f}")
    click.echo(f"ratio   {middle:8.3f}, half of the blocks from {low:.3f} to {high:.3f}")
    click.echo(f"\nload after: {machine.load()}")


if __name__ == "__main__":
    main()

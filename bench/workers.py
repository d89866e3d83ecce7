"""Row 11: ticks a second of two workers beside one, with their load on the same machine.

python -m bench.workers
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import tempfile
import time
from typing import TYPE_CHECKING

import click
import grpc
import numpy as np

from bench import caller, options, results
from bench.row import Row
from tickcell.cli.server_process import ServerProcess
from tickcell.model import Bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.row import Effort

_STREAMS = 32
# Each stream has a connection of its own, by which it comes to one of the workers.
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


class _Load:
    """Streams of ticks to one server, one message in flight on each."""

    def __init__(self, address: str, bundle: Bundle) -> None:
        self._address = address
        self._frames = bundle.golden.frames
        self._streams: list[tuple[caller.Session, caller.Stream]] = []
        self._steps = [0] * _STREAMS

    async def open(self, stack: contextlib.AsyncExitStack) -> None:
        """Connects, and ticks once on each stream."""
        for _ in range(_STREAMS):
            channel = grpc.aio.insecure_channel(self._address, _OPTIONS)
            await stack.enter_async_context(channel)
            session = await caller.Session.create(channel, self._frames)
            self._streams.append((session, caller.Stream(channel, caller.TICKS)))
        await self.rate(0.0)

    async def rate(self, seconds: float) -> float:
        """Ticks for so long; returns ticks a second."""
        begin, before = time.perf_counter(), sum(self._steps)
        await asyncio.gather(*[self._tick(at, begin + seconds) for at in range(_STREAMS)])
        return (sum(self._steps) - before) / (time.perf_counter() - begin)

    async def _tick(self, at: int, until: float) -> None:
        session, stream = self._streams[at]
        while True:
            response = await stream.exchange(session.request(self._steps[at]))
            self._steps[at] += 1
            if time.perf_counter() >= until:
                break
        # A refusal would be followed by refusals.
        caller.output(response)


def rows(bundle: Bundle, effort: Effort) -> list[Row]:
    """Measures row 11."""
    with _server("1") as one, _server("2") as two:
        rates = asyncio.run(_rates([one.address, two.address], bundle, effort))
    single, double = np.median(rates, axis=0)
    return [
        Row(
            11,
            f"ticks/s of {_STREAMS} streams, --workers 2 over 1",
            float(np.median(rates[:, 1] / rates[:, 0])),
            beside=f"{double:,.0f} ticks/s, one worker {single:,.0f}",
        )
    ]


@contextlib.contextmanager
def _server(workers: str) -> Iterator[ServerProcess]:
    with tempfile.TemporaryDirectory(prefix="tickcell-bench-") as directory:
        # Workers share a port, and no socket of a path.
        server = ServerProcess(pathlib.Path(directory), "--workers", workers, listen="localhost:0")
        with server:
            yield server


async def _rates(addresses: list[str], bundle: Bundle, effort: Effort) -> np.ndarray:
    """Returns the ticks a second of each server in each block, `[N, servers]`."""
    async with contextlib.AsyncExitStack() as stack:
        loads = [_Load(address, bundle) for address in addresses]
        for load in loads:
            await load.open(stack)
        return np.array(
            [[await load.rate(effort.block_s) for load in loads] for _ in range(effort.blocks)]
        )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@options.quick
@options.results_directory
def main(effort: Effort, directory: pathlib.Path) -> None:
    """Measures two workers beside one."""
    recorder = results.Recorder()
    recorder.add(rows(Bundle.load(), effort))
    click.echo(recorder.keep(directory, "-workers"))


if __name__ == "__main__":
    main()

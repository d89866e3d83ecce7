"""Row 9: a million live sessions beside a thousand.

    python -m bench.million [--sessions 20000]

Both stores are filled by the server's own engine in this process, without gRPC: sessions are
created, and then all their steps are taken in one random order, some sessions' in each round.
So each record grows as it does in service, in between those of others, and moves to other
pages as it grows. A session's 40 steps come in chunks, which saves rounds; a record after
a chunk is the record after its steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import tempfile
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

import click
import grpc
import numpy as np

from bench import caller, options, results, start
from bench.row import Row, at_most
from tickcell import wire
from tickcell.cli.server_process import ServerProcess
from tickcell.model import Bundle
from tickcell.server import process
from tickcell.server.caller import ANYBODY
from tickcell.server.catalogue import Catalogue, ServedModel
from tickcell.server.config import NANOSECONDS, Config, Limits
from tickcell.server.engine import Engine
from tickcell.server.life_requests import Creation
from tickcell.server.observer import Observer
from tickcell.server.rules import StepRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_FEW = 1000
_MILLION = 1_000_000
_STEPS = 40
_WINDOW = 32
_DAY_NS = 24 * 3600 * NANOSECONDS
# Requests that are entered together.
_AT_ONCE = 256
_WARM_UP = 200


class Filled(NamedTuple):
    """A session with its 40 steps."""

    id: str
    generation: int


async def fill(store: pathlib.Path, bundle: Bundle, session_count: int, chunk: int) -> list[Filled]:
    """Fills a new store, and closes it.

    Args:
      store: its directory.
      bundle: the model.
      session_count: how many sessions.
      chunk: steps in a request; divides 40.
    """
    config = Config(store=store, limits=Limits(max_sessions=session_count + 1))
    async with process.open_store(config) as kept:
        model = ServedModel.load(bundle)
        engine = Engine(config, Catalogue([model]), kept, Observer())
        sessions = []
        for first in range(0, session_count, _AT_ONCE):
            count = min(_AT_ONCE, session_count - first)
            wanted = [_creation() for _ in range(count)]
            made = [engine.create(ANYBODY, model, each) for each in wanted]
            records = await asyncio.gather(*made)
            sessions += [
                Filled(each.session, record.life.generation)
                for each, record in zip(wanted, records, strict=True)
            ]
        await _step(engine, sessions, bundle.golden.frames.astype("<f4"), chunk)
        engine.close()
    return sessions


def _creation() -> Creation:
    return Creation(str(uuid.uuid4()), str(uuid.uuid4()), 1, _WINDOW, _DAY_NS, {})


async def _step(
    engine: Engine, sessions: Sequence[Filled], frames: NDArray[np.float32], chunk: int
) -> None:
    """Takes all steps of all sessions in one random order."""
    order = np.repeat(np.arange(len(sessions), dtype=np.int32), _STEPS // chunk)
    np.random.default_rng(0).shuffle(order)
    stepped = np.zeros(len(sessions), np.int32)
    for at in range(0, len(order), _AT_ONCE):
        requests = []
        for index in order[at : at + _AT_ONCE]:
            session, step = sessions[index], int(stepped[index])
            data = frames[step : step + chunk].tobytes()
            key = ANYBODY.key(session.id)
            requests.append(StepRequest(key, session.generation, step, chunk, data))
            stepped[index] += chunk
        await asyncio.gather(*[engine.step(request) for request in requests])


class _Side:
    """A served store, one stream to it, and its sessions, which are stepped at random."""

    def __init__(
        self, channel: grpc.aio.Channel, sessions: Sequence[Filled], bundle: Bundle
    ) -> None:
        self._stream = caller.Stream(channel, caller.TICKS)
        self._sessions = sessions
        self._frames = bundle.golden.frames.astype("<f4")
        self._steps: dict[int, int] = {}
        self._random = np.random.default_rng(1)

    async def tick_us(self) -> float:
        """Steps a session drawn at random; returns how long that took, in microseconds."""
        index = int(self._random.integers(len(self._sessions)))
        step = self._steps.get(index, _STEPS)
        self._steps[index] = step + 1
        session = self._sessions[index]
        request = wire.StreamStepsRequest(
            session=session.id,
            generation=session.generation,
            first_step=step,
            step_count=1,
            frames=self._frames[step % len(self._frames)].tobytes(),
        ).SerializeToString()
        begin = time.perf_counter()
        response = await self._stream.exchange(request)
        taken = time.perf_counter() - begin
        caller.output(response)
        return 1e6 * taken

    async def close(self) -> None:
        """Ends the stream."""
        await self._stream.close()


class Served(NamedTuple):
    """Ticks of both stores in turns, and what the server of the large one takes.

    Attributes:
      times_us: `[2, N]`: of the few sessions, and of the many.
      start_s: from its start until health says SERVING.
      memory_mb: resident after the ticks.
    """

    times_us: NDArray[np.float64]
    start_s: float
    memory_mb: float


def serve(
    few: tuple[pathlib.Path, Sequence[Filled]],
    many: tuple[pathlib.Path, Sequence[Filled]],
    bundle: Bundle,
    pair_count: int,
) -> Served:
    """Serves both stores, and ticks in turns.

    Args:
      few: the directory in which the store is the folder `store`, and its sessions.
      many: likewise, of the store whose start and memory are measured.
      bundle: the model.
      pair_count: ticks of each.
    """
    limit = ("--max-sessions", str(len(many[1]) + 1))
    begin = time.perf_counter()
    with ServerProcess(many[0], *limit) as large:
        start.hold_serving(large.address)
        start_s = time.perf_counter() - begin
        with ServerProcess(few[0]) as small:
            sides = [(small.address, few[1]), (large.address, many[1])]
            times = asyncio.run(_tick(sides, bundle, pair_count))
        return Served(times, start_s, start.resident_mb(large.pid))


async def _tick(
    served: Sequence[tuple[str, Sequence[Filled]]], bundle: Bundle, pair_count: int
) -> NDArray[np.float64]:
    async with contextlib.AsyncExitStack() as stack:
        sides = []
        for address, sessions in served:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            sides.append(_Side(channel, sessions, bundle))
        times = [[await side.tick_us() for side in sides] for _ in range(_WARM_UP + pair_count)]
        for side in sides:
            await side.close()
    return np.array(times[_WARM_UP:]).T


def disk_bytes(store: pathlib.Path) -> int:
    """Returns the bytes of all files of a store."""
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


def rows(served: Served, few_bytes: int, many_bytes: int, session_count: int) -> list[Row]:
    """Returns row 9; fewer sessions than a million have no aim.

    Args:
      served: what came of serving both stores.
      few_bytes: of the store with the few sessions, on disk.
      many_bytes: of the store with the many.
      session_count: of the many.
    """
    is_all = session_count >= _MILLION
    taken = f"{many_bytes / 1e6:,.0f} MB"
    if session_count > _FEW:
        # Without what a store takes however many there are, as the room kept for a full disk.
        more = (many_bytes - few_bytes) / (session_count - _FEW) / 1e3
        taken += f"; each beyond {_FEW:,} takes {more:.2f} KB"
    few_us, many_us = np.median(served.times_us, axis=1)
    named = f"{session_count:,} sessions"
    return [
        Row(
            9,
            f"{named}: tick p50 over that with {_FEW:,}",
            float(many_us / few_us),
            at_most(1.3) if is_all else None,
            beside=f"{many_us:.0f} us, with {_FEW:,} {few_us:.0f} us",
        ),
        Row(
            9,
            f"{named}: disk a session",
            many_bytes / session_count / 1e3,
            at_most(1.8) if is_all else None,
            "KB",
            taken,
        ),
        Row(
            9,
            f"{named}: RSS of the server",
            served.memory_mb,
            at_most(300) if is_all else None,
            "MB",
        ),
        Row(
            9,
            f"{named}: start to SERVING",
            served.start_s,
            at_most(1) if is_all else None,
            "s",
        ),
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--sessions", "session_count", type=click.IntRange(min=1), default=_MILLION, show_default=True
)
@click.option(
    "--chunk",
    type=click.Choice(["1", "2", "4", "8"]),
    default="4",
    show_default=True,
    help="Steps in a request, while the stores are filled.",
)
@click.option("--pairs", "pair_count", default=5000, show_default=True, help="Ticks of each.")
@options.results_directory
def main(session_count: int, chunk: str, pair_count: int, directory: pathlib.Path) -> None:
    """Measures a million live sessions beside a thousand; takes 2 GB of disk."""
    bundle, recorder = Bundle.load(), results.Recorder()
    with (
        tempfile.TemporaryDirectory(prefix="tickcell-bench-") as few,
        tempfile.TemporaryDirectory(prefix="tickcell-bench-") as many,
    ):
        sides = []
        for place, count in ((pathlib.Path(few), _FEW), (pathlib.Path(many), session_count)):
            begin = time.monotonic()
            sessions = asyncio.run(fill(place / "store", bundle, count, int(chunk)))
            took_s = time.monotonic() - begin
            click.echo(f"{count:,} sessions filled in {took_s:.0f} s", err=True)
            sides.append((place, sessions))
        # Before its server writes a log beside it.
        few_bytes, many_bytes = (disk_bytes(place / "store") for place, _ in sides)
        served = serve(sides[0], sides[1], bundle, pair_count)
    recorder.add(rows(served, few_bytes, many_bytes, session_count))
    click.echo(recorder.keep(directory, "-million"))


if __name__ == "__main__":
    main()

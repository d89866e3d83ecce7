"""What a Python caller waits for: a session's step beside a bare stream call, alternating.

The bare call sends the same bytes to the same server, and does nothing with the reply.
"""

from __future__ import annotations

import asyncio
import queue
import time
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from bench import caller, serving
from bench.pairs import Pairs
from bench.row import Row, at_most
from tickcell import wire
from tickcell.client import AsyncSession, Session
from tickcell.wire import history

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from bench.row import Effort
    from tickcell.client import SessionInfo
    from tickcell.model import Bundle

# So that nothing is still cold for the first time.
_WARM_UP = 200
_AIM = at_most(1.15)


def session_rows(bundle: Bundle, effort: Effort) -> list[Row]:
    """Measures row 1."""
    with serving.served() as address:
        measured = session_steps(address, bundle, effort.pairs)
    return [_row(1, "Session.step over a bare grpc stream call, p50", measured)]


def async_session_rows(bundle: Bundle, effort: Effort) -> list[Row]:
    """Measures row 2."""
    with serving.served() as address:
        measured = asyncio.run(async_session_steps(address, bundle, effort.pairs))
    return [_row(2, "AsyncSession.step over a bare grpc.aio stream call, p50", measured)]


def _row(number: int, measure: str, measured: Pairs) -> Row:
    bare_us, step_us = measured.percentile(50)
    beside = f"{step_us:.0f} us, bare {bare_us:.0f} us"
    return Row(number, measure, step_us / bare_us, _AIM, beside=beside)


def session_steps(address: str, bundle: Bundle, count: int) -> Pairs:
    """Measures `Session.step` beside a bare `grpc` stream.

    Args:
      address: of the server.
      bundle: the model that it serves.
      count: of the steps, and of the bare calls.
    """
    frames = _frames(bundle, count)
    times = np.empty((2, len(frames)))
    outputs = []
    requests = queue.SimpleQueue[bytes | None]()
    with (
        Session.create(address) as session,
        Session.create(address) as other,
        grpc.insecure_channel(address) as channel,
    ):
        ticks: Any = channel.stream_stream(caller.TICKS)
        call = ticks(iter(requests.get, None))
        for step, encoded in enumerate(_requests(other.info, frames)):
            start = time.perf_counter()
            requests.put(encoded)
            response = next(call)
            times[0, step] = time.perf_counter() - start
            start = time.perf_counter()
            output = session.step(frames[step])
            times[1, step] = time.perf_counter() - start
            outputs.append((caller.output(response), output.tobytes()))
        requests.put(None)
        call.cancel()
    return _pairs(times, outputs)


async def async_session_steps(address: str, bundle: Bundle, count: int) -> Pairs:
    """Measures `AsyncSession.step` beside a bare `grpc.aio` stream; as `session_steps`."""
    frames = _frames(bundle, count)
    times = np.empty((2, len(frames)))
    outputs = []
    async with (
        AsyncSession.create(address) as session,
        AsyncSession.create(address) as other,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stream = caller.Stream(channel, caller.TICKS)
        for step, encoded in enumerate(_requests(other.info, frames)):
            start = time.perf_counter()
            response = await stream.exchange(encoded)
            times[0, step] = time.perf_counter() - start
            start = time.perf_counter()
            output = await session.step(frames[step])
            times[1, step] = time.perf_counter() - start
            outputs.append((caller.output(response), output.tobytes()))
        await stream.close()
    return _pairs(times, outputs)


def _frames(bundle: Bundle, count: int) -> NDArray[np.float32]:
    golden = bundle.golden.frames.astype("<f4")
    return np.resize(golden, (_WARM_UP + count, golden.shape[1]))


def _requests(info: SessionInfo, frames: NDArray[np.float32]) -> Iterator[bytes]:
    """Yields the requests of a session's steps, as `Session` sends them."""
    before = info.history
    for step, frame in enumerate(frames):
        data = frame.tobytes()
        encoded: bytes = wire.StreamStepsRequest(
            session=info.id,
            generation=info.generation,
            first_step=step,
            step_count=1,
            frames=data,
            expected_history=before,
        ).SerializeToString()
        before = history.chain(before, data, 1)
        yield encoded


def _pairs(times: NDArray[np.float64], outputs: list[tuple[bytes, bytes]]) -> Pairs:
    """Returns what was measured, once each step is seen to have the outputs of its pair."""
    for step, (bare, stepped) in enumerate(outputs):
        if bare != stepped:
            raise RuntimeError(f"step {step} has other outputs than the bare call's.")
    return Pairs(*(1e6 * times[:, _WARM_UP:]))

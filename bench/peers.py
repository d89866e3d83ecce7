"""One agent beside Triton, each with its own client in Python, one frame at a time and all at once.

    python -m bench.peers

Triton's model is the same cell behind its sequence batcher and Python backend, which keeps
states in memory (see `triton_model`). Its client is tritonclient, which the extra `triton`
brings. The sides take turns, a block of steps each. Our outputs are held to the plain loop's;
Triton's cannot be, since the one that can be fetched answers with their shapes alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import queue
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import click
import grpc
import numpy as np

from bench import caller, echo, options, results, serving, triton_server
from bench.row import Aim, Row, at_least
from tickcell.client import AsyncSession, Session
from tickcell.model import Bundle, extras

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from numpy.typing import NDArray

    from bench.row import Effort

    Frames = NDArray[np.float32]

_BLOCK = 200
_WARM_UP = 50


class _Side(Protocol):
    """A way to step one sequence."""

    async def step(self, frames: Frames) -> Frames | None:
        """Steps by some frames, `[T, F]`; returns their outputs, `[T, O]`, if they are known."""
        ...


class _Ours:
    """`Session.step`, over and over."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def step(self, frames: Frames) -> Frames:
        return np.stack([self._session.step(frame) for frame in frames])


class _OursAsync:
    """`AsyncSession.step`, over and over."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def step(self, frames: Frames) -> Frames:
        return np.stack([await self._session.step(frame) for frame in frames])


class _OursAtOnce:
    """`Session.stream` of frames that are all there."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def step(self, frames: Frames) -> Frames:
        return np.stack(list(self._session.stream(frames)))


class _Asked:
    """What tritonclient asks of a model."""

    def __init__(self, client: Any, bundle: Bundle, sequence: int) -> None:
        """Prepares requests.

        Args:
          client: the module whose classes they are of.
          bundle: the model's.
          sequence: their correlation id.
        """
        self._client = client
        self._output = bundle.interface.heads[0].name
        self._name = bundle.card.name
        self._sequence = sequence
        self._has_started = False

    def request(self, frame: Frames) -> dict[str, Any]:
        """Returns the arguments of a request for the next step."""
        is_start, self._has_started = not self._has_started, True
        given = self._client.InferInput("frames", [1, len(frame)], "FP32")
        given.set_data_from_numpy(frame[np.newaxis])
        return {
            "model_name": self._name,
            "inputs": [given],
            "outputs": [self._client.InferRequestedOutput(self._output)],
            "sequence_id": self._sequence,
            "sequence_start": is_start,
        }


class _Unary:
    """`InferenceServerClient.infer`, over and over."""

    def __init__(self, connection: Any, asked: _Asked) -> None:
        self._connection = connection
        self._asked = asked

    async def step(self, frames: Frames) -> None:
        for frame in frames:
            self._connection.infer(**self._asked.request(frame))


class _UnaryAsync:
    """`InferenceServerClient.infer` of tritonclient's asyncio, over and over."""

    def __init__(self, connection: Any, asked: _Asked) -> None:
        self._connection = connection
        self._asked = asked

    async def step(self, frames: Frames) -> None:
        for frame in frames:
            await self._connection.infer(**self._asked.request(frame))


class _Streamed:
    """`InferenceServerClient.async_stream_infer`, some requests ahead of their responses."""

    def __init__(self, connection: Any, asked: _Asked, most_ahead: int) -> None:
        self._connection = connection
        self._asked = asked
        self._most_ahead = most_ahead
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        connection.start_stream(lambda result, error: self._answers.put(error or result))

    async def step(self, frames: Frames) -> None:
        for at, frame in enumerate(frames):
            if at >= self._most_ahead:
                self._take_answer()
            self._connection.async_stream_infer(**self._asked.request(frame))
        for _ in range(min(self._most_ahead, len(frames))):
            self._take_answer()

    def _take_answer(self) -> None:
        answer = self._answers.get()
        if isinstance(answer, Exception):
            raise answer


class _Echoed:
    """A bare stream of `grpc` to an echo, which is what a client in Python has at best."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests = queue.SimpleQueue[bytes | None]()
        stream: Any = channel.stream_stream(echo.METHOD)
        self._call = stream(iter(self._requests.get, None))

    async def step(self, frames: Frames) -> None:
        for frame in frames:
            self._requests.put(frame.tobytes())
            next(self._call)

    def close(self) -> None:
        """Ends the stream."""
        self._requests.put(None)
        self._call.cancel()


class _EchoedAsync:
    """The same of `grpc.aio`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stream = caller.Stream(channel, echo.METHOD)

    async def step(self, frames: Frames) -> None:
        for frame in frames:
            await self.stream.exchange(frame.tobytes())


class _Pair(NamedTuple):
    """What is compared: one side of ours over one of Triton's, by name."""

    ours: str
    theirs: str
    aim: Aim | None


_AIM = at_least(1.8)
_PAIRS = (
    _Pair("Session.step", "infer", _AIM),
    _Pair("Session.step", "a stream, one at a time", _AIM),
    _Pair("a bare echo by grpc", "infer", None),
    _Pair("AsyncSession.step", "infer of asyncio", _AIM),
    _Pair("a bare echo by grpc.aio", "infer of asyncio", None),
    _Pair("Session.stream", "a stream, 32 ahead", _AIM),
)


def rows(bundle: Bundle, effort: Effort) -> list[Row]:
    """Measures each pair; needs Triton and the extra `triton`."""
    rates = asyncio.run(_measure(bundle, effort.blocks))
    return [
        Row(
            0,
            f"{pair.ours} over Triton's client by {pair.theirs}",
            float(np.median(rates[pair.ours] / rates[pair.theirs])),
            pair.aim,
            beside=f"{np.median(rates[pair.ours]):,.0f} steps/s, "
            f"Triton {np.median(rates[pair.theirs]):,.0f}",
        )
        for pair in _PAIRS
    ]


async def _measure(bundle: Bundle, blocks: int) -> dict[str, NDArray[np.float64]]:
    """Returns the steps a second of each side in each block.

    Raises:
      RuntimeError: an output is not that of the plain loop.
    """
    frames = np.resize(
        bundle.golden.frames, (_WARM_UP + blocks * _BLOCK, bundle.interface.sensor_count)
    )
    expected = _looped(bundle, frames)
    rates: dict[str, list[float]] = {}
    async with _sides(bundle) as sides:
        for name, side in sides.items():
            rates[name] = []
            _hold(name, await side.step(frames[:_WARM_UP]), expected[:_WARM_UP])
        for block in range(blocks):
            start = _WARM_UP + block * _BLOCK
            part = slice(start, start + _BLOCK)
            for name, side in _in_turn(sides, block):
                begin = time.perf_counter()
                outputs = await side.step(frames[part])
                rates[name].append(_BLOCK / (time.perf_counter() - begin))
                _hold(name, outputs, expected[part])
    return {name: np.array(found) for name, found in rates.items()}


@contextlib.asynccontextmanager
async def _sides(bundle: Bundle) -> AsyncIterator[dict[str, _Side]]:
    """Runs both servers, and connects each side to one of them."""
    client = extras.load("tritonclient.grpc", extra="triton")
    client_of_asyncio = extras.load("tritonclient.grpc.aio", extra="triton")
    async with contextlib.AsyncExitStack() as stack:
        ours = stack.enter_context(serving.serving()).address
        theirs = stack.enter_context(triton_server.serving(bundle)).address

        def connection() -> Any:
            made = client.InferenceServerClient(theirs)
            stack.callback(made.close)
            return made

        of_asyncio = client_of_asyncio.InferenceServerClient(theirs)
        stack.push_async_callback(of_asyncio.close)
        one, other = (stack.enter_context(Session.create(ours)) for _ in range(2))
        echoed = _Echoed(stack.enter_context(grpc.insecure_channel(ours)))
        stack.callback(echoed.close)
        echoed_async = _EchoedAsync(
            await stack.enter_async_context(grpc.aio.insecure_channel(ours))
        )
        stack.push_async_callback(echoed_async.stream.close)
        yield {
            "a bare echo by grpc": echoed,
            "a bare echo by grpc.aio": echoed_async,
            "Session.step": _Ours(one),
            "infer": _Unary(connection(), _Asked(client, bundle, 1)),
            "a stream, one at a time": _Streamed(connection(), _Asked(client, bundle, 2), 1),
            "AsyncSession.step": _OursAsync(
                await stack.enter_async_context(await AsyncSession.create(ours))
            ),
            "infer of asyncio": _UnaryAsync(of_asyncio, _Asked(client_of_asyncio, bundle, 3)),
            "Session.stream": _OursAtOnce(other),
            "a stream, 32 ahead": _Streamed(connection(), _Asked(client, bundle, 4), 32),
        }


def _in_turn(sides: dict[str, _Side], block: int) -> Iterator[tuple[str, _Side]]:
    """Yields the sides, each first as often as the others."""
    items = [*sides.items()]
    first = block % len(items)
    yield from items[first:] + items[:first]


def _looped(bundle: Bundle, frames: Frames) -> Frames:
    cell = bundle.cell()
    outputs, state = [], cell.initial_state()
    for frame in frames:
        output, state = cell.step(frame, state)
        outputs.append(output)
    return np.stack(outputs)


def _hold(name: str, outputs: Frames | None, expected: Frames) -> None:
    if outputs is not None and outputs.tobytes() != expected.tobytes():
        raise RuntimeError(f"{name}: its outputs are not those of the plain loop.")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@options.quick
@options.results_directory
def main(effort: Effort, directory: pathlib.Path) -> None:
    """Measures one agent beside Triton, which is fetched once."""
    recorder = results.Recorder()
    recorder.add(rows(Bundle.load(), effort))
    click.echo(recorder.keep(directory, "-peers"))


if __name__ == "__main__":
    main()

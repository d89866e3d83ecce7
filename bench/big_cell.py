"""A big cell, two LSTM layers of 512: sessions together beside one by one, and what others wait."""

from __future__ import annotations

import asyncio
import pathlib
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

import grpc
import numpy as np

from bench import caller, health, serving
from bench.row import Row, at_least, at_most
from tickcell.model import Bundle, MissingExtraError, extras
from tickcell.model.bundle import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from bench.row import Effort

_UNITS = 512
_SENSORS = 10
_SESSIONS = 32
_ROUNDS = 30


def rows(_: Bundle, effort: Effort) -> list[Row]:
    """Measures row 10, with a bundle of its own, for which it needs TensorFlow."""
    together = f"LSTM 2 x {_UNITS}: {_SESSIONS} sessions together over one by one"
    longest = "the longest answer to health meanwhile"
    with tempfile.TemporaryDirectory(prefix="tickcell-bench-") as directory:
        try:
            big = make(pathlib.Path(directory) / "bundle")
        except MissingExtraError as error:
            lack = str(error)
            return [
                Row(10, together, None, at_least(4), beside=lack),
                Row(10, longest, None, at_most(20), "ms", lack),
            ]
        with served(big) as server:
            measured = asyncio.run(measure(server.address, big, rounds=2 * effort.rounds))
    rates = f"{measured.together:,.0f} steps/s, one by one {measured.one_by_one:,.0f}"
    return [
        Row(10, together, measured.ratio, at_least(4), beside=rates),
        Row(10, longest, measured.longest_health_ms, at_most(20), "ms"),
    ]


class BigCell(NamedTuple):
    """Steps a second of 32 sessions, by the median of several rounds that took turns.

    Attributes:
      chunk: steps in each message.
      together: all sessions at once.
      one_by_one: each once the one before is answered.
      longest_health_ms: the longest that the server took to answer health, meanwhile.
    """

    chunk: int
    together: float
    one_by_one: float
    longest_health_ms: float

    @property
    def ratio(self) -> float:
        """Those together over those one by one."""
        return self.together / self.one_by_one


def make(directory: pathlib.Path) -> Bundle:
    """Makes a bundle of the cell, which is not trained; needs TensorFlow."""
    keras = extras.load("keras", extra="train")
    from tickcell.model.interface import unnamed_sensors
    from tickcell.model.keras import export
    from tickcell.model.keras.description import Description

    keras.utils.set_random_seed(0)
    frames = keras.Input((None, _SENSORS))
    hidden = keras.layers.LSTM(_UNITS, return_sequences=True)(frames)
    hidden = keras.layers.LSTM(_UNITS, return_sequences=True)(hidden)
    model = keras.Model(frames, keras.layers.Dense(1, "sigmoid")(hidden))
    description = Description("big", "1", unnamed_sensors(_SENSORS), 50.0)
    export.export(model, description, random_step_count=200).write(directory)
    return Bundle.load(directory)


async def measure(address: str, bundle: Bundle, chunk: int = 1, rounds: int = _ROUNDS) -> BigCell:
    """Steps the sessions both ways in turn; holds all outputs to the plain loop's.

    Args:
      address: of the server.
      bundle: the model that it serves.
      chunk: steps in each message.
      rounds: how often each way.

    Raises:
      RuntimeError: an output is not that of the plain loop.
    """
    async with grpc.aio.insecure_channel(address) as channel:
        frames = bundle.golden.frames
        sessions = [
            _Stepped(channel, await caller.Session.create(channel, np.roll(frames, -at, axis=0)))
            for at in range(_SESSIONS)
        ]
        times: dict[str, list[float]] = {"together": [], "one by one": []}
        with health.asked(address) as longest:
            for _ in range(rounds):
                begin = time.perf_counter()
                await asyncio.gather(*[each.step(chunk) for each in sessions])
                times["together"].append(time.perf_counter() - begin)
                begin = time.perf_counter()
                for each in sessions:
                    await each.step(chunk)
                times["one by one"].append(time.perf_counter() - begin)
        for each in sessions:
            await each.close()
    _hold(sessions, bundle)
    together, one_by_one = (chunk * _SESSIONS / float(np.median(taken)) for taken in times.values())
    return BigCell(chunk, together, one_by_one, longest.time_ms)


class _Stepped:
    """A session on a stream of its own, and its outputs."""

    def __init__(self, channel: grpc.aio.Channel, session: caller.Session) -> None:
        self.session = session
        self.outputs: list[bytes] = []
        self._stream = caller.Stream(channel, caller.TICKS)
        self._next_step = 0

    async def step(self, count: int) -> None:
        request = self.session.request(self._next_step, count)
        self._next_step += count
        self.outputs.append(caller.output(await self._stream.exchange(request)))

    async def close(self) -> None:
        await self._stream.close()


def _hold(sessions: Sequence[_Stepped], bundle: Bundle) -> None:
    cell = bundle.cell()
    for each in sessions:
        outputs, state = b"", cell.initial_state()
        for step in range(len(b"".join(each.outputs)) // (4 * cell.interface.output_count)):
            output, state = cell.step(each.session.frame(step), state)
            outputs += output.tobytes()
        if outputs != b"".join(each.outputs):
            raise RuntimeError("a session has other outputs than the plain loop.")


def served(bundle: Bundle) -> AbstractContextManager[serving.Serving]:
    """Serves a bundle in a process of its own."""
    return serving.serving(bundle=bundle.path or SHIPPED)

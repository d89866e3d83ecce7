"""A session of many series: through gRPC, beside the bare cell on the same arrays."""

from __future__ import annotations

import collections
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import grpc
import numpy as np

from bench import caller, serving
from bench.row import Row, at_least
from tickcell import wire
from tickcell.client import Session
from tickcell.model import Bundle
from tickcell.v1 import session_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from bench.row import Effort
    from tickcell.model import Cell

_SERIES = 1024
_STEPS = 64
_ROUNDS = 15


def rows(bundle: Bundle, effort: Effort) -> list[Row]:
    """Measures row 5; one step a message has no aim, for each commits all of the record."""
    return [
        Row(
            5,
            f"B = {_SERIES}, {each.way}, over the bare cell",
            each.ratio,
            None if each.way.startswith("T = 1,") else at_least(0.5),
            beside=f"{each.served:,.0f} series-steps/s, bare {each.bare:,.0f}",
        )
        for each in measure(bundle, rounds=effort.rounds)
    ]


class Wide(NamedTuple):
    """Steps times series a second, the median of several rounds in which both took turns.

    Attributes:
      way: by which the frames go, in words.
      served: through a stream.
      bare: by `Cell.step` in this process.
    """

    way: str
    served: float
    bare: float

    @property
    def ratio(self) -> float:
        """The served ones over the bare ones."""
        return self.served / self.bare


def measure(
    bundle: Bundle,
    ways: tuple[tuple[int, int], ...] = ((1, 1), (8, 1), (8, 2)),
    *,
    rounds: int = _ROUNDS,
) -> list[Wide]:
    """Takes the same frames every way in turn, `Session.steps` among them.

    All outputs are held to the bare cell's.

    Args:
      bundle: the model.
      ways: of raw messages, the steps in one, and how many are in flight.
      rounds: how often each is taken.

    Raises:
      RuntimeError: an output is not that of the bare cell.
    """
    drawn = np.random.default_rng(0).integers(0, len(bundle.golden.frames), (_STEPS, _SERIES))
    frames = bundle.golden.frames[drawn].astype("<f4")
    cell = bundle.cell()
    times: dict[str, list[float]] = collections.defaultdict(list)
    bare = []
    with (
        serving.served() as address,
        grpc.insecure_channel(address) as channel,
        Session.create(address, series_count=_SERIES) as own,
    ):
        runs: dict[str, Callable[[NDArray[np.float32]], bytes]] = {
            f"T = {chunk}, {in_flight} in flight": _Session(channel, chunk, in_flight).run
            for chunk, in_flight in ways
        }
        runs["by Session.steps"] = lambda each: own.steps(each).tobytes()
        expected, state = _bare(cell, frames, cell.initial_state(_SERIES))
        for run in runs.values():
            if run(frames) != expected.tobytes():
                raise RuntimeError("the session has other outputs than the bare cell.")
        for _ in range(rounds):
            begin = time.perf_counter()
            _, state = _bare(cell, frames, state)
            bare.append(time.perf_counter() - begin)
            for way, run in runs.items():
                begin = time.perf_counter()
                run(frames)
                times[way].append(time.perf_counter() - begin)
    count = _STEPS * _SERIES
    rate = count / float(np.median(bare))
    return [Wide(way, count / float(np.median(taken)), rate) for way, taken in times.items()]


class _Session:
    """A session that is stepped over a stream, as fast as its answers come."""

    def __init__(self, channel: grpc.Channel, chunk: int, in_flight: int) -> None:
        create = channel.unary_unary(
            "/tickcell.v1.SessionService/CreateSession",
            request_serializer=session_service_pb2.CreateSessionRequest.SerializeToString,
            response_deserializer=session_service_pb2.CreateSessionResponse.FromString,
        )
        asked = session_service_pb2.CreateSessionRequest(series_count=_SERIES)
        self._session = create(asked).session
        self._chunk, self._in_flight, self._step = chunk, in_flight, 0
        self._channel = channel

    def run(self, frames: NDArray[np.float32]) -> bytes:
        """Sends all frames, `[T, B, F]`, and returns the outputs."""
        chunks = [frames[at : at + self._chunk] for at in range(0, len(frames), self._chunk)]
        free = threading.Semaphore(self._in_flight)
        stream: Callable[..., Iterator[bytes]] = self._channel.stream_stream(caller.TICKS)
        call = stream(self._asked(chunks, free))
        outputs = []
        for response in call:
            outputs.append(caller.output(response))
            free.release()
        return b"".join(outputs)

    def _asked(
        self, chunks: list[NDArray[np.float32]], free: threading.Semaphore
    ) -> Iterator[bytes]:
        for chunk in chunks:
            free.acquire()
            message = wire.StreamStepsRequest(
                session=self._session.id,
                generation=self._session.generation,
                first_step=self._step,
                step_count=len(chunk),
                frames=chunk.tobytes(),
            )
            self._step += len(chunk)
            yield message.SerializeToString()


def _bare(
    cell: Cell, frames: NDArray[np.float32], state: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    outputs = np.empty((*frames.shape[:2], cell.interface.output_count), np.float32)
    for step, frame in enumerate(frames):
        outputs[step], state = cell.step(frame, state)
    return outputs, state

"""A recording in chunks: through a server, beside the plain loop and Keras over all of it.

Keras has a process of its own: a client has none in its process, where TensorFlow's threads
would push the client's aside.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench import serving
from bench.row import Row, at_least
from tickcell.client import Session
from tickcell.model import Bundle, MissingExtraError, extras

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.row import Effort
    from tickcell.model import Cell

_WINDOW = 1024
_STEPS = 8 * _WINDOW
_ROUNDS = 15


def rows(bundle: Bundle, effort: Effort) -> list[Row]:
    """Measures row 4; without TensorFlow, what needs none."""
    try:
        measured = measure(bundle, rounds=effort.rounds)
        lack = ""
    except MissingExtraError as error:
        measured = measure(bundle, with_keras=False, rounds=effort.rounds)
        lack = str(error)
    served = f"{_rate(measured.served)} steps/s"
    steps = f"Session.steps, window {_WINDOW}"
    return [
        Row(
            4,
            f"{steps}, over keras.Model.predict on all",
            measured.over_keras,
            at_least(10),
            beside=lack or f"{served}, Keras {_rate(measured.keras)}",
        ),
        Row(
            4,
            f"{steps}, over the plain loop in process",
            measured.over_loop,
            at_least(2),
            beside=f"{served}, the loop {_rate(measured.looped)}",
        ),
    ]


class Chunks(NamedTuple):
    """Seconds that all steps took in each round, `[N]`; in a round all took turns.

    Attributes:
      served: by `Session.steps`, in chunks of a window of 1024 steps.
      stretched: by `Cell.steps` in this process.
      looped: by `Cell.step` in this process, one at a time: the plain loop.
      keras: by `keras.Model.predict` on the whole sequence; None where there is no TensorFlow.
    """

    served: NDArray[np.float64]
    stretched: NDArray[np.float64]
    looped: NDArray[np.float64]
    keras: NDArray[np.float64] | None

    @property
    def over_loop(self) -> float:
        """How many times as quick as the plain loop served ones are: the median of the rounds."""
        return float(np.median(self.looped / self.served))

    @property
    def over_keras(self) -> float | None:
        """How many times as quick as Keras served ones are, likewise."""
        return None if self.keras is None else float(np.median(self.keras / self.served))


def _rate(times: NDArray[np.float64] | None) -> str:
    """Returns the steps a second."""
    return "" if times is None else f"{_STEPS / np.median(times):,.0f}"


# Does something once, and returns the seconds that it took.
_Timed = Callable[[], float]


def measure(bundle: Bundle, *, with_keras: bool = True, rounds: int = _ROUNDS) -> Chunks:
    """Takes the same frames every way in turn; holds the outputs to the plain loop's.

    Raises:
      RuntimeError: an output is not that of the plain loop.
    """
    frames = np.resize(bundle.golden.frames, (_STEPS, bundle.interface.sensor_count))
    cell = bundle.cell()
    expected = _loop(cell, frames).tobytes()
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(serving.served())
        session = stack.enter_context(Session.create(address, window=_WINDOW))

        def served() -> float:
            session.reset()
            return _timed(lambda: session.steps(frames), expected)

        ways: dict[str, _Timed] = {
            "served": served,
            "stretched": lambda: _timed(
                lambda: cell.steps(frames, cell.initial_state())[0], expected
            ),
            "looped": lambda: _timed(lambda: _loop(cell, frames), expected),
        }
        if with_keras:
            ways["keras"] = stack.enter_context(_keras(bundle, frames))
        for timed in ways.values():
            # What is not warm yet: the chunks of the first round go step by step.
            for _ in range(3):
                timed()
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, timed in ways.items():
                times[name].append(timed())
    found = {name: np.array(taken) for name, taken in times.items()}
    return Chunks(found["served"], found["stretched"], found["looped"], found.get("keras"))


def _timed(run: Callable[[], NDArray[np.float32]], expected: bytes) -> float:
    begin = time.perf_counter()
    outputs = run()
    taken = time.perf_counter() - begin
    if outputs.tobytes() != expected:
        raise RuntimeError("has other outputs than the plain loop.")
    return taken


def _loop(cell: Cell, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    outputs = np.empty((len(frames), cell.interface.output_count), np.float32)
    state = cell.initial_state()
    for step, frame in enumerate(frames):
        outputs[step], state = cell.step(frame, state)
    return outputs


@contextlib.contextmanager
def _keras(bundle: Bundle, frames: NDArray[np.float32]) -> Iterator[_Timed]:
    """Yields what times the bundle's own Keras model on the whole sequence, in its process."""
    extras.load("keras", extra="train")
    with futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        process.submit(_load_keras, str(bundle.keras_path), frames).result()
        yield lambda: process.submit(_predict_s).result()


# Of the process that has Keras: predicts the whole sequence, and stays from call to call.
_predict: Callable[[], Any]


def _load_keras(path: str, frames: NDArray[np.float32]) -> None:
    global _predict
    from tickcell.model.keras import archive

    model, whole = archive.load(path), frames[np.newaxis]
    _predict = functools.partial(model.predict, whole, verbose=0)


def _predict_s() -> float:
    begin = time.perf_counter()
    _predict()
    return time.perf_counter() - begin

"""A recording in chunks: through a server, beside the plain loop and Keras over all of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench import serving
from bench.row import Row, at_least
from tickcell.client import Session
from tickcell.model import Bundle, MissingExtraError, extras

if TYPE_CHECKING:
    from collections.abc import Callable

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
    served = f"{measured.served:,.0f} steps/s"
    steps = f"Session.steps, window {_WINDOW}"
    return [
        Row(
            4,
            f"{steps}, over keras.Model.predict on all",
            measured.over_keras,
            at_least(10),
            beside=lack or f"{served}, Keras {measured.keras:,.0f}",
        ),
        Row(
            4,
            f"{steps}, over the plain loop in process",
            measured.over_loop,
            at_least(2),
            beside=f"{served}, the loop {measured.looped:,.0f}",
        ),
    ]


class Chunks(NamedTuple):
    """Steps a second of one series, the median of several rounds in which all took turns.

    Attributes:
      served: by `Session.steps`, in chunks of a window of 1024 steps.
      stretched: by `Cell.steps` in this process.
      looped: by `Cell.step` in this process, one at a time: the plain loop.
      keras: by `keras.Model.predict` on the whole sequence; None where there is no TensorFlow.
    """

    served: float
    stretched: float
    looped: float
    keras: float | None

    @property
    def over_loop(self) -> float:
        """The served ones over those of the plain loop."""
        return self.served / self.looped

    @property
    def over_keras(self) -> float | None:
        """The served ones over those of Keras."""
        return None if self.keras is None else self.served / self.keras


def measure(bundle: Bundle, *, with_keras: bool = True, rounds: int = _ROUNDS) -> Chunks:
    """Takes the same frames every way in turn; holds the outputs to the plain loop's.

    Raises:
      RuntimeError: an output is not that of the plain loop.
    """
    frames = np.resize(bundle.golden.frames, (_STEPS, bundle.interface.sensor_count))
    cell = bundle.cell()
    expected = _loop(cell, frames)
    with serving.served() as address, Session.create(address, window=_WINDOW) as session:

        def served() -> NDArray[np.float32]:
            session.reset()
            return session.steps(frames)

        ways: dict[str, Callable[[], Any]] = {
            "served": served,
            "stretched": lambda: cell.steps(frames, cell.initial_state())[0],
            "looped": lambda: _loop(cell, frames),
        }
        for name, run in ways.items():
            # What is not warm yet: the chunks of the first round go step by step.
            for _ in range(3):
                if run().tobytes() != expected.tobytes():
                    raise RuntimeError(f"{name}: has other outputs than the plain loop.")
        if with_keras:
            ways["keras"] = _keras(bundle, frames)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, run in ways.items():
                begin = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - begin)
    rates = {name: len(frames) / float(np.median(taken)) for name, taken in times.items()}
    return Chunks(rates["served"], rates["stretched"], rates["looped"], rates.get("keras"))


def _loop(cell: Cell, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    outputs = np.empty((len(frames), cell.interface.output_count), np.float32)
    state = cell.initial_state()
    for step, frame in enumerate(frames):
        outputs[step], state = cell.step(frame, state)
    return outputs


def _keras(bundle: Bundle, frames: NDArray[np.float32]) -> Callable[[], Any]:
    """Returns what runs the bundle's own Keras model, which is compiled by then."""
    extras.load("keras", extra="train")
    from tickcell.model.keras import archive

    model = archive.load(bundle.keras_path or "")
    whole = frames[np.newaxis]
    model.predict(whole, verbose=0)
    return lambda: model.predict(whole, verbose=0)

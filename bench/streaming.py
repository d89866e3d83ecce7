"""Frames that are all there, by `Session.steps` and by `Session.stream`, alternating."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench import serving
from bench.row import Row, at_least
from tickcell.cli import comparison
from tickcell.client import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from bench.row import Effort
    from tickcell.model import Bundle

# Rounds that are run before any is counted.
_WARM_UP = 1
_WINDOW = 32
_STEPS = 4096


def rows(bundle: Bundle, effort: Effort) -> list[Row]:
    """Measures row 3."""
    with serving.served() as address:
        rates = measure(
            address, bundle, window=_WINDOW, step_count=_STEPS, round_count=effort.rounds
        )
    steps = float(np.median(rates.steps))
    return [
        Row(
            3,
            f"Session.stream of {frames} over Session.steps, window {_WINDOW}",
            ratio,
            aim,
            beside=f"{np.median(rate):,.0f} steps/s, steps() {steps:,.0f}",
        )
        for frames, ratio, rate, aim in (
            ("an array", rates.array_ratio, rates.array, at_least(0.7)),
            # Of which nobody knows whether they are all there.
            ("an iterator", rates.iterator_ratio, rates.iterator, None),
        )
    ]


class Rates(NamedTuple):
    """Steps per second of each round, `[N]`: the n-th stream is just after the n-th steps.

    Attributes:
      steps: by `Session.steps`.
      array: by `Session.stream` over the array.
      iterator: by `Session.stream` over an iterator, which a thread draws from.
    """

    steps: NDArray[np.float64]
    array: NDArray[np.float64]
    iterator: NDArray[np.float64]

    @property
    def array_ratio(self) -> float:
        """The median ratio of `array` over `steps`, round by round."""
        return float(np.median(self.array / self.steps))

    @property
    def iterator_ratio(self) -> float:
        """The median ratio of `iterator` over `steps`, round by round."""
        return float(np.median(self.iterator / self.steps))


def measure(
    address: str, bundle: Bundle, *, window: int, step_count: int, round_count: int
) -> Rates:
    """Sends a recording in each way, alternating; holds the outputs to the cell's own.

    Args:
      address: of the server.
      bundle: the model that it serves.
      window: of the sessions, in steps.
      step_count: of the recording, which is the bundle's golden frames over and over.
      round_count: how often it is sent in each way.
    """
    frames = np.resize(bundle.golden.frames, (step_count, bundle.golden.frames.shape[1]))
    expected = comparison.loop(bundle.cell(), frames)
    ways: list[Callable[[Session], NDArray[np.float32]]] = [
        lambda session: session.steps(frames),
        lambda session: np.stack(list(session.stream(frames))),
        lambda session: np.stack(list(session.stream(iter(frames)))),
    ]
    times = np.empty((len(ways), _WARM_UP + round_count))
    for index in range(_WARM_UP + round_count):
        for way, step in enumerate(ways):
            with Session.create(address, window=window) as session:
                session.steps(frames[:1])
                session.reset()
                start = time.perf_counter()
                outputs = step(session)
                times[way, index] = time.perf_counter() - start
            if outputs.tobytes() != expected.tobytes():
                raise RuntimeError("the outputs are not those of the cell in process.")
    return Rates(*(step_count / times[:, _WARM_UP:]))

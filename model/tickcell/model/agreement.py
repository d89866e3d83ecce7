"""How well two ways of computing the same outputs agree, step by step.

Two implementations differ in their last bits. A recurrence that forgets keeps that
difference small for ever; one that amplifies it (a chaotic one) cannot agree with any
other implementation for long, however right both are. So the growth is measured, and
distinguished from a wrong conversion by what the cell itself does with a tiny push.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from tickcell.model.cell import Cell
from tickcell.model.interface import Interface

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 1e-5

# About ten times the spacing of float32 near 1: a push that any rounding could give.
_PUSH = 1e-6

_PLACES = 16


class AgreementError(ValueError):
    """A step does not give the outputs of the model that it was made from."""


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """The largest |delta| between two outputs of the same frames.

    Each output has a tolerance of its own, since one may be a probability and the next a
    speed in rpm. All fields are of the one that comes closest to its own, or goes furthest
    beyond it.

    Attributes:
      max_delta: over all steps.
      at_step: where it is.
      step_count: how many steps were compared.
      growth: the largest |delta| of the first 10, 100, 1000 … steps, by their number.
      tolerance: what is within float32 at the size of the output: 1e-5, or 1e-5 of its
        largest value if that is above 1.
    """

    max_delta: float
    at_step: int
    step_count: int
    growth: dict[str, float]
    tolerance: float = TOLERANCE

    @property
    def is_close(self) -> bool:
        """Says whether it is within the tolerance at all steps."""
        return self.max_delta <= self.tolerance


def stream(cell: Cell, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Steps through sequences `[B, T, F]` from zero states; returns `[B, T, O]`."""
    return _stream_from(cell, frames, cell.initial_state(len(frames)))[0]


def compare(got: NDArray[np.float32], expected: NDArray[np.float32]) -> Agreement:
    """Compares outputs `[B, T, O]`, where anything is expected: not where that is NaN."""
    apart = np.where(np.isnan(expected), 0, np.abs(got - expected))
    deltas = np.where(np.isnan(apart), np.inf, apart).max(axis=0)
    largest = np.abs(np.where(np.isnan(expected), 0, expected)).max(axis=(0, 1)).astype(np.float64)
    tolerances = TOLERANCE * np.maximum(1.0, largest)
    worst = int((deltas.max(axis=0) / tolerances).argmax())
    delta = deltas[:, worst]
    running = np.maximum.accumulate(delta)
    steps = [step for step in (10, 100, 1000, 10_000, 100_000) if step < len(delta)]
    return Agreement(
        max_delta=float(running[-1]),
        at_step=int(delta.argmax()),
        step_count=len(delta),
        growth={str(step): float(running[step - 1]) for step in [*steps, len(delta)]},
        tolerance=float(tolerances[worst]),
    )


def amplification(cell: Cell, frames: NDArray[np.float32]) -> float:
    """Measures what becomes of a tiny push to the state, `frames` being `[B, T, F]`.

    Returns:
      The largest |delta| of a state at the end, as a multiple of the push: well below 1
      for a cell that forgets.
    """
    start = cell.initial_state(len(frames))
    state = _stream_from(cell, frames, start)[1]
    pushed = _stream_from(cell, frames, start + np.float32(_PUSH))[1]
    return float(np.abs(pushed - state).max() / _PUSH)


def forgetting_steps(
    cell: Cell, frames: NDArray[np.float32], *, push: float | None = None, within: float = 0.01
) -> int:
    """Counts the steps until nothing is seen any more of a state that was another.

    A carried state is taken at places all over the first half of a recording, and what
    comes out of it is compared with what comes out of the other state.

    Args:
      cell: steps both.
      frames: `[T, F]`, at least 2.
      push: what is added to each element of the carried state to get the other one;
        without it, the other state is that of zeros.
      within: the |delta| that counts as the same: of a probability, or as a share of the
        range that a number has over the recording, whatever its unit is.

    Returns:
      The first step from which on all outputs agree, or T / 2 where they never do.
    """
    half = len(frames) // 2
    starts = np.linspace(0, half - 1, min(half, _PLACES)).astype(int)
    carried = cell.initial_state(len(starts))
    state = cell.initial_state()
    outputs = np.empty((half, cell.interface.output_count), np.float32)
    for index, frame in enumerate(frames[:half]):
        carried[starts == index] = state
        outputs[index : index + 1], state = cell.step(frame[np.newaxis], state)
    limits = within * _ranges(cell.interface, outputs)
    other = cell.initial_state(len(starts)) if push is None else carried + np.float32(push)
    last = 0
    for step in range(half):
        rows = frames[starts + step]
        got, carried = cell.step(rows, carried)
        other_got, other = cell.step(rows, other)
        if (np.abs(other_got - got) > limits).any():
            last = step + 1
    return last


def _ranges(interface: Interface, outputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the range of each output, `[O]`: 1 of probabilities, what is seen of numbers."""
    is_number = np.repeat(
        [head.kind == "number" for head in interface.heads],
        [head.size for head in interface.heads],
    )
    seen = np.ptp(outputs.astype(np.float64), axis=0)
    return np.where(is_number & (seen > 0), seen, 1.0)


def _stream_from(
    cell: Cell, frames: NDArray[np.float32], state: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    outputs = np.empty((*frames.shape[:2], cell.interface.output_count), np.float32)
    for step in range(frames.shape[1]):
        outputs[:, step], state = cell.step(frames[:, step], state)
    return outputs, state

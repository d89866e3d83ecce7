"""Outputs beside the outputs that they should be."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tickcell.model import Cell

# What another implementation of the same arithmetic may differ by, in shares of the largest
# output where that is above 1.
TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """What came of comparing some outputs with others.

    Attributes:
      what: the outputs that were compared.
      against: what with.
      count: how many numbers each has.
      differing: how many of them have other bits.
      max_delta: the largest absolute difference.
      at_step: the first step that has it.
      tolerance: the largest difference allowed; 0 for equal bits.
    """

    what: str
    against: str
    count: int
    differing: int
    max_delta: float
    at_step: int
    tolerance: float

    @property
    def is_passed(self) -> bool:
        """Whether the outputs are as near as they should be."""
        return self.differing == 0 if self.tolerance == 0 else self.max_delta <= self.tolerance

    def __str__(self) -> str:
        if self.differing == 0:
            return f"all {self.count} equal to the bit"
        delta = f"max |delta| {self.max_delta:.2g} at step {self.at_step}"
        if self.tolerance:
            return f"{delta} of {self.count} (tolerance {self.tolerance:g})"
        return f"{self.differing} of {self.count} differ, {delta}"


def compare(
    what: str,
    got: NDArray[np.float32],
    against: str,
    expected: NDArray[np.float32],
    *,
    tolerance: float = 0.0,
) -> Comparison:
    """Compares outputs, `[T, ...]` float32 each; a NaN is infinitely far from anything.

    Args:
      what: names `got`.
      got: outputs.
      against: names `expected`.
      expected: what they should be.
      tolerance: the largest difference allowed, and where an output that is expected is above
        1 the share of it; 0 for equal bits.
    """
    if got.shape != expected.shape:
        raise ValueError(f"{what}: got shape {got.shape}, expected {expected.shape}.")
    delta = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    delta[np.isnan(delta)] = np.inf
    by_step = delta.reshape(len(delta), -1).max(axis=1)
    bits = got.view(np.uint32) != expected.view(np.uint32)
    at_step = int(by_step.argmax())
    largest = float(np.nanmax(np.abs(expected), initial=1.0))
    return Comparison(
        what,
        against,
        got.size,
        int(bits.sum()),
        float(by_step[at_step]),
        at_step,
        tolerance * largest,
    )


def loop(
    cell: Cell, frames: NDArray[np.float32], advance: Callable[[], object] = lambda: None
) -> NDArray[np.float32]:
    """Returns what the promise says: the outputs of the plain loop, without any server.

    Args:
      cell: run in this process, one row at a time.
      frames: `[T, F]`.
      advance: is told of each step.

    Returns:
      `[T, O]`.
    """
    outputs = np.empty((len(frames), cell.interface.output_count), np.float32)
    state = cell.initial_state()
    for step, frame in enumerate(frames):
        outputs[step], state = cell.step(frame, state)
        advance()
    return outputs

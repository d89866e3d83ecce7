"""What a proof of a stream shows beside agreement: a network that forgets agrees with anything."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from tickcell.model import agreement
from tickcell.model.cell import Cell
from tickcell.model.interface import Interface
from tickcell.model.keras.plan import Plan
from tickcell.model.keras.rules.recurrent import Recurrent
from tickcell.model.keras.rules.so_far import Pooled
from tickcell.model.ranges import Ranges

LEAST_DEVIATION = 1e-3

# A recurrent layer, and what is taken over all frames, must know what was so many frames ago.
_REMEMBERED = 3

# So far from its reading a sensor is pushed, within its range, to see whether the past matters.
_PUSH = 8.0

_AT = 60

_NUMBER = re.compile(r"_\d+")


def assert_moves(expected: NDArray[np.float32], names: tuple[str, ...]) -> float:
    """Asserts that each output changes over time; returns the least deviation."""
    deviations = np.nanstd(expected, axis=1).max(axis=0)
    still = {
        name: float(each)
        for name, each in zip(names, deviations, strict=True)
        if each < LEAST_DEVIATION
    }
    assert not still, f"what does not move agrees with anything: {still}"
    return float(deviations.min())


def assert_remembers(cell: Cell, frames: NDArray[np.float32], age: int = _REMEMBERED) -> None:
    """Asserts that the oldest frame that should matter changes the outputs.

    Args:
      cell: steps them.
      frames: `[B, T, F]`.
      age: how many steps ago that frame was.
    """
    frames = frames[:, : _AT + age + 1]
    outputs = agreement.stream(cell, frames)
    changed = 0.0
    ranges = Ranges(cell.interface.sensors)
    for push in (-_PUSH, _PUSH):
        pushed = frames.copy()
        pushed[:, _AT] = ranges.clip(pushed[:, _AT] + np.float32(push))
        later = agreement.stream(cell, pushed)[:, -1]
        changed = max(changed, float(np.abs(later - outputs[:, -1]).max()))
    assert changed > 10 * agreement.TOLERANCE, f"nothing is seen of what was {age} frames ago"


def assert_each_state_matters(
    cell: Cell, frames: NDArray[np.float32], expected: NDArray[np.float32], unread: str = ""
) -> None:
    """Asserts that the comparison fails as soon as any one state is not carried on.

    Args:
      cell: steps them.
      frames: `[B, T, F]`.
      expected: `[B, T, O]`.
      unread: the name, without numbers, of a state that nothing reads.
    """
    for name, outputs in without_each_state(cell, frames):
        is_close = agreement.compare(outputs, expected).is_close
        if name.endswith("_rest"):
            continue  # What an addition rounded away is small, and matters after hours only.
        assert is_close == (_NUMBER.sub("", name) == unread), name


def without_each_state(
    cell: Cell, frames: NDArray[np.float32]
) -> list[tuple[str, NDArray[np.float32]]]:
    """Streams with each state in turn planted as it was before the first frame."""
    streamed = []
    for name, columns in _columns(cell.interface):
        start = cell.initial_state(len(frames))
        state, outputs = start, []
        for step in range(frames.shape[1]):
            output, state = cell.step(frames[:, step], state)
            state = state.copy()
            state[:, columns] = start[:, columns]
            outputs.append(output)
        streamed.append((name, np.stack(outputs, axis=1)))
    return streamed


def oldest(read: Plan) -> int:
    """Returns the age of the oldest frame that should matter, on the longest way to an output."""
    ages = {value.index: 0 for value in read.inputs}
    for bound in read.bound:
        rule = bound.rule
        own = 0
        if isinstance(rule, Recurrent | Pooled):
            own = _REMEMBERED
        elif rule.initial_states:  # The frames that a convolution or pooling looks back at.
            (frames,) = rule.initial_states.values()
            own = len(frames)
        age = own + max((ages.get(value.index, 0) for value in rule.call.inputs), default=0)
        ages |= {value.index: age for value in bound.outputs}
    return max(ages[head.value.index] for head in read.heads)


def _columns(interface: Interface) -> list[tuple[str, slice]]:
    columns, first = [], 0
    for tensor in interface.state_tensors:
        columns.append((tensor.name, slice(first, first + tensor.size)))
        first += tensor.size
    return columns

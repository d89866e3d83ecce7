"""What every rule has: the call it is for, its states, one step, and the whole sequence.

A rule says how one call in a Keras model is computed a frame at a time. Values are those
of Keras without the axis of time: what is `[B, T, ...]` in the model is `[B, ...]` in a
step, and what the model knows only at its last frame is, at each step, what it would be
if the sequence ended there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tickcell.model.keras import reason as reasons

Tensors = Mapping[int, Any]
States = Mapping[str, Any]


class UnstreamableError(ValueError):
    """A model cannot be turned into a step that gives the outputs of the whole sequence."""


class Timing(enum.Enum):
    """When a value of a model is known."""

    EACH = "at each frame"
    SO_FAR = "of all frames so far"
    GIVEN = "beside the frames"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor in a model.

    Attributes:
      index: numbers the values of a plan.
      shape: Keras's, `[B, T, ...]` at each frame, or else `[B, ...]`.
      dtype: Keras's.
      timing: when it is known.
      lag: how many of the first frames it has nothing for; negative where it has
        frames of zeros before the first one.
    """

    index: int
    shape: tuple[int | None, ...]
    dtype: str
    timing: Timing
    lag: int = 0

    @property
    def frame_shape(self) -> tuple[int | None, ...]:
        """Its shape at one frame, without the axis of series."""
        return self.shape[2:] if self.timing is Timing.EACH else self.shape[1:]

    @property
    def size(self) -> int:
        """How many numbers it has at one frame; an unknown axis has none."""
        return math.prod(size or 0 for size in self.frame_shape)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a layer or operation.

    Attributes:
      operation: the Keras layer or operation.
      arguments: as it is called, with a `Value` in place of each tensor.
      keywords: likewise.
      shapes: of what it gives.
      name: the operation's name, made unique where it is called more than once.
    """

    operation: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    shapes: tuple[tuple[int | None, ...], ...]
    name: str

    @property
    def inputs(self) -> list[Value]:
        """The values it takes, as often as it takes them."""
        leaves = keras.tree.flatten((self.arguments, self.keywords))
        return [leaf for leaf in leaves if isinstance(leaf, Value)]

    def run(self, tensors: Tensors) -> Any:
        """Calls the operation on tensors."""

        def fill(leaf: Any) -> Any:
            return tensors[leaf.index] if isinstance(leaf, Value) else leaf

        arguments, keywords = keras.tree.map_structure(fill, (self.arguments, self.keywords))
        return self.operation(*arguments, **keywords)


class Rule:
    """How one call is computed a frame at a time.

    Attributes:
      call: the call.
      initial_states: by name, of one series.
      gives: the timing and lag of each value that it gives.
    """

    def __init__(self, call: Call) -> None:
        """Binds the rule to a call.

        Raises:
          UnstreamableError: this call gives something else frame by frame.
        """
        self.call = call
        self.initial_states: dict[str, NDArray[np.float32]] = {}
        self.gives: list[tuple[Timing, int]] = []

    def step(self, tensors: Tensors, states: States, held: Any) -> tuple[list[Any], States]:
        """Computes one frame.

        Args:
          tensors: the values so far, by index, each `[B, ...]`.
          states: this rule's, by name, each `[B, ...]`.
          held: `[B, 1]`, whether the call has no input yet because what is before it
            needs more frames; None where that never is.

        Returns:
          The values it gives, and its next states.
        """
        raise NotImplementedError

    def whole(self, tensors: Tensors) -> list[Any]:
        """Computes all frames; each value is `[B, T, ...]`, or shorter by its lag."""
        raise NotImplementedError


def refusal(call: Call, reason: str, way_out: str) -> UnstreamableError:
    """Refuses a call; see `refused`."""
    return refused(call.operation, reason, way_out)


def refused(operation: Any, reason: str, way_out: str) -> UnstreamableError:
    """Names the layer or operation, the reason and the way out in one sentence."""
    kind = "layer" if isinstance(operation, keras.layers.Layer) else "operation"
    return UnstreamableError(
        f"{kind} {operation.name!r} ({type(operation).__name__}) cannot be streamed: {reason}; "
        f"{way_out}."
    )


@contextlib.contextmanager
def naming(operation: Any) -> Iterator[None]:
    """Names the layer whose code runs in the block in what it raises.

    Raises:
      UnstreamableError: for whatever it raises.
    """
    try:
        yield
    except UnstreamableError:
        raise
    except Exception as error:  # A layer of somebody's own can raise anything.
        raise refused(
            operation,
            f"its code raises {reasons.of(error)}",
            "let it take any number of series, and of frames",
        ) from error


def common(call: Call, inputs: Sequence[Value] | None = None) -> tuple[Timing, int]:
    """Returns the timing and lag that the inputs have in common.

    Raises:
      UnstreamableError: they have none.
    """
    inputs = call.inputs if inputs is None else inputs
    timings = {value.timing for value in inputs}
    if Timing.EACH in timings and timings != {Timing.EACH}:
        raise refusal(
            call,
            "it joins what is known at each frame with what is not of one frame",
            "join it at the last frame, or repeat a static input with RepeatVector",
        )
    lags = {value.lag for value in inputs if value.timing is not Timing.GIVEN} or {0}
    if len(lags) > 1:
        raise refusal(
            call,
            f"its inputs begin {sorted(lags)} frames into the sequence",
            "pad convolutions with padding='causal'",
        )
    timing = next((each for each in (Timing.EACH, Timing.SO_FAR) if each in timings), Timing.GIVEN)
    return timing, lags.pop()


def takes(layer: Any, argument: str) -> bool:
    """Says whether a layer's call takes an argument of this name."""
    return argument in inspect.signature(layer.call).parameters


def as_list(given: Any) -> list[Any]:
    """Returns what a call gave as a list of tensors, however it is nested."""
    return list(keras.tree.flatten(given))


def each_alone(run: Any, tensors: Tensors) -> list[Any]:
    """Runs what takes `[B, ...]` on each frame of `[B, T, ...]`, as one large batch."""
    size = keras.ops.shape(next(iter(tensors.values())))[:2]
    flat = {
        index: keras.ops.reshape(tensor, (-1, *tensor.shape[2:]))
        for index, tensor in tensors.items()
    }
    return [keras.ops.reshape(tensor, (*size, *tensor.shape[1:])) for tensor in as_list(run(flat))]

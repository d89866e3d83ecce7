"""Calls that make one value of the whole sequence: at each step, of the frames so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tickcell.model.keras.rules.per_frame import AlongAxis
from tickcell.model.keras.rules.rule import (
    Call,
    Rule,
    States,
    Tensors,
    Timing,
    Value,
    refusal,
)

# float32 counts by ones up to 2^24 only, so a count is kept in two digits of this base.
_BASE = float(2**20)


class Pooled(Rule):
    """What is taken over all frames; masked frames do not count."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        sequence = call.inputs[0]
        if sequence.timing is not Timing.EACH or sequence.lag < 0:
            raise refusal(call, "its input is not a sequence of frames", "put it before")
        if getattr(call.operation, "keepdims", False):
            raise refusal(call, "it keeps an axis of time of length 1", "use keepdims=False")
        if getattr(call.operation, "data_format", "channels_last") != "channels_last":
            raise refusal(call, "its axis of time is the last one", "use channels_last")
        mask = call.keywords.get("mask")
        self._mask = mask.index if isinstance(mask, Value) else None
        self._input = sequence.index
        self._shape = tuple(size or 0 for size in sequence.frame_shape)
        self.gives = [(Timing.SO_FAR, sequence.lag)]

    def step(self, tensors: Tensors, states: States, held: Any) -> tuple[list[Any], States]:
        following = self.advance(tensors[self._input], states)
        skipped = held
        if self._mask is not None:
            masked = keras.ops.logical_not(keras.ops.expand_dims(tensors[self._mask], -1))
            skipped = masked if held is None else keras.ops.logical_or(held, masked)
        if skipped is not None:
            following = {
                name: keras.ops.where(_beside(skipped, each), states[name], each)
                for name, each in following.items()
            }
        return [self.output(following)], following

    def advance(self, frame: Any, states: States) -> dict[str, Any]:
        """Returns the states after one more frame."""
        raise NotImplementedError

    def output(self, states: States) -> Any:
        """Returns what the states say."""
        raise NotImplementedError


class MeanSoFar(Pooled):
    """The mean as `m += (x - m) / n`, which drifts as little after hours as at first.

    What the last addition rounded away is kept and added with the next.
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._mean, self._rest, self._count = (
            f"{call.name}_{each}" for each in ("mean", "rest", "count")
        )
        self.initial_states = {
            self._mean: np.zeros(self._shape, np.float32),
            self._rest: np.zeros(self._shape, np.float32),
            self._count: np.zeros(2, np.float32),
        }

    def advance(self, frame: Any, states: States) -> dict[str, Any]:
        mean, count = states[self._mean], states[self._count]
        ones = count[:, :1] + 1.0
        carries = ones >= _BASE
        ones = keras.ops.where(carries, ones - _BASE, ones)
        more = keras.ops.where(carries, count[:, 1:] + 1.0, count[:, 1:])
        share = (frame - mean) / _beside(more * _BASE + ones, mean) + states[self._rest]
        following = mean + share
        return {
            self._mean: following,
            self._rest: share - (following - mean),
            self._count: keras.ops.concatenate([ones, more], axis=1),
        }

    def output(self, states: States) -> Any:
        return states[self._mean]

    def whole(self, tensors: Tensors) -> list[Any]:
        frames = keras.ops.cast(tensors[self._input], "float64")
        lead = keras.ops.shape(frames)[:2]
        counted = keras.ops.ones(lead, "float64")
        if self._mask is not None:
            counted = keras.ops.cast(tensors[self._mask], "float64")
        counted = keras.ops.reshape(counted, (*lead, *[1] * len(self._shape)))
        count = keras.ops.maximum(keras.ops.cumsum(counted, axis=1), 1.0)
        mean = keras.ops.cumsum(frames * counted, axis=1) / count
        return [keras.ops.cast(mean, "float32")]


class MaxSoFar(Pooled):
    """The largest reading; before the first frame, the lowest float32."""

    sign = 1.0

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._most = f"{call.name}_max"
        lowest = np.full(self._shape, np.finfo(np.float32).min)
        self.initial_states = {self._most: lowest}

    def advance(self, frame: Any, states: States) -> dict[str, Any]:
        return {self._most: keras.ops.maximum(states[self._most], self.sign * frame)}

    def output(self, states: States) -> Any:
        return self.sign * states[self._most]

    def whole(self, tensors: Tensors) -> list[Any]:
        frames = keras.ops.moveaxis(self.sign * tensors[self._input], 1, 0)
        _, most = keras.ops.scan(_larger, frames[0], frames)
        return [self.sign * keras.ops.moveaxis(most, 0, 1)]


class MinSoFar(MaxSoFar):
    """The smallest reading, as the largest of what is turned around."""

    sign = -1.0


def reduction(over_time: type[Pooled]) -> Callable[[Call], Rule]:
    """Makes the rule of an operation that reduces axes: along time, or within a frame."""

    def reduced(call: Call) -> Rule:
        value = call.inputs[0]
        axes = keras.tree.flatten(call.operation.axis)
        is_over_time = [axis for axis in axes if axis is not None and axis % len(value.shape) == 1]
        if value.timing is Timing.EACH and len(axes) == 1 and is_over_time:
            return over_time(call)
        return AlongAxis(call)

    return reduced


class Repeated(Rule):
    """`RepeatVector` of a static input: at each frame, what came with it."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        value = call.inputs[0]
        if value.timing is not Timing.GIVEN:
            raise refusal(
                call,
                "it gives every frame what is known only at the last one",
                "let the layer before it give its outputs at each frame",
            )
        self._input = value.index
        self.gives = [(Timing.EACH, 0)]

    def step(self, tensors: Tensors, states: States, held: Any) -> tuple[list[Any], States]:  # noqa: ARG002 - of the base
        return [tensors[self._input]], {}

    def whole(self, tensors: Tensors) -> list[Any]:
        return [tensors[self._input]]


def _beside(column: Any, tensor: Any) -> Any:
    """Shapes `[B, 1]` so that it goes with each element of `[B, ...]`."""
    return keras.ops.reshape(column, (-1, *[1] * (len(tensor.shape) - 1)))


def _larger(most: Any, frame: Any) -> tuple[Any, Any]:
    most = keras.ops.maximum(most, frame)
    return most, most

"""One step of any Keras model that can be streamed: on one frame and named states.

    step = Step(model)
    states = step.initial_states(series_count)
    for frame in sequence:
        output, states = step(frame, states)

This loop gives, frame by frame, what the model gives for the whole sequence.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tickcell.model.interface import TensorSpec
from tickcell.model.keras import plan
from tickcell.model.keras.plan import FRAME_COUNT, Plan
from tickcell.model.keras.rules.rule import Value, naming


class Step:
    """Advances a model by one frame; shares the model's weights.

    A model that gives only its last output gives, at each step, what it would give for
    the frames so far.
    """

    def __init__(self, model: Any) -> None:
        """Takes a model apart.

        Raises:
          UnstreamableError: the model cannot be streamed; the message names the layer and why.
        """
        self.model = model
        self.plan: Plan = plan.read(model)
        self._initial = {
            name: state for rule in self.plan.rules for name, state in rule.initial_states.items()
        }
        if self.plan.largest_hold:
            self._initial[FRAME_COUNT] = np.zeros(1, np.float32)
        self.state_tensors = tuple(
            TensorSpec(name, state.shape, initial=_compact(state))
            for name, state in self._initial.items()
        )

    def initial_states(self, series_count: int) -> dict[str, Any]:
        """Returns the states before the first frame, by name, each `[B, ...]`."""
        return {
            name: keras.ops.tile(state[np.newaxis], (series_count, *[1] * state.ndim))
            for name, state in self._initial.items()
        }

    def __call__(self, frame: Any, states: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Advances by one frame.

        Args:
          frame: `[B, F]` float32.
          states: by name, each `[B, ...]`.

        Returns:
          `(output, next_states)`; `output` is `[B, O]`.
        """
        values = split(self.plan, frame)
        next_states: dict[str, Any] = {}
        for bound in self.plan.bound:
            rule = bound.rule
            own = {name: states[name] for name in rule.initial_states}
            lag = max([0, *(value.lag for value in rule.call.inputs)])
            held = states[FRAME_COUNT] < lag if own and lag else None
            with naming(rule.call.operation):
                given, following = rule.step(values, own, held)
            values |= zip((value.index for value in bound.outputs), given, strict=True)
            next_states |= following
        if self.plan.largest_hold:
            count = states[FRAME_COUNT] + 1.0
            next_states[FRAME_COUNT] = keras.ops.minimum(count, float(self.plan.largest_hold))
        return joined(self.plan, values), next_states


def split(plan: Plan, frames: Any) -> dict[int, Any]:
    """Splits frames `[B, F]` or `[B, T, F]` into the inputs of a model."""
    lead = len(frames.shape) - 1
    tensors = {}
    columns = plan.columns()
    for value, place in columns:
        tensor = frames if len(columns) == 1 else frames[..., place]
        if len(value.frame_shape) != 1:
            sizes = keras.ops.shape(frames)[:lead]
            tensor = keras.ops.reshape(tensor, (*sizes, *value.frame_shape))
        tensors[value.index] = _typed(tensor, value)
    return tensors


def joined(plan: Plan, values: dict[int, Any]) -> Any:
    """Joins the heads of one frame into `[B, O]`."""
    parts = []
    for head in plan.heads:
        part = values[head.value.index]
        if len(head.value.frame_shape) != 1:
            part = keras.ops.reshape(part, (-1, head.size))
        parts.append(part if head.value.dtype == "float32" else keras.ops.cast(part, "float32"))
    return parts[0] if len(parts) == 1 else keras.ops.concatenate(parts, axis=-1)


def _typed(tensor: Any, value: Value) -> Any:
    return tensor if value.dtype == "float32" else keras.ops.cast(tensor, value.dtype)


def _compact(state: np.ndarray) -> float | tuple[float, ...]:
    """Returns one number where all elements are that number."""
    elements = [float(each) for each in state.reshape(-1)]
    return elements[0] if len(set(elements)) == 1 else tuple(elements)

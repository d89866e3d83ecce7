"""One step of any recurrent Keras model: its own layers, on one frame and named states.

    step = Step(model)
    states = step.initial_states(series_count)
    for frame in sequence:
        output, states = step(frame, states)

This loop gives, frame by frame, what the model gives for the whole sequence.
"""

from __future__ import annotations

from typing import Any

import keras

from tickcell.model.interface import TensorSpec
from tickcell.model.keras import plan
from tickcell.model.keras.plan import Call, UnstreamableError

# Layers that do the same to `[B, F]` as to each frame of `[B, T, F]`, wherever they were
# built; calling them without the axis of time keeps the graph free of reshapes.
_ANY_RANK_LAYERS = (
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ReLU,
)


class Step:
    """Advances a model by one frame; shares the model's weights.

    A model that gives only its last output gives, at each step, what it would give for
    the frames so far.
    """

    def __init__(self, model: Any) -> None:
        """Takes a Sequential or functional model apart.

        Raises:
          UnstreamableError: the model cannot be streamed; the message names the layer and why.
        """
        self.model = model
        self.plan = plan.read(model)
        self._state_names = {
            call.name: _state_names(call) for call in self.plan.calls if call.is_recurrent
        }
        sizes = [
            (name, size)
            for call in self.plan.calls
            if call.is_recurrent
            for name, size in zip(
                self._state_names[call.name],
                keras.tree.flatten(call.layer.cell.state_size),
                strict=True,
            )
        ]
        self.state_tensors = tuple(TensorSpec(name, (size,)) for name, size in sizes)
        for name, state in self.initial_states(1).items():
            if keras.ops.any(state != 0):
                raise UnstreamableError(f"state {name!r}: does not start from zeros.")

    def initial_states(self, series_count: int) -> dict[str, Any]:
        """Returns the states before the first frame, by name, each `[B, H]`."""
        states: dict[str, Any] = {}
        for call in self.plan.calls:
            if call.is_recurrent:
                values = keras.tree.flatten(call.layer.get_initial_state(series_count))
                states |= zip(self._state_names[call.name], values, strict=True)
        return states

    def __call__(self, frame: Any, states: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Advances by one frame.

        Args:
          frame: `[B, F]` float32.
          states: by name, each `[B, H]`.

        Returns:
          `(output, next_states)`; `output` is `[B, O]`.
        """
        values = {0: frame}
        next_states: dict[str, Any] = {}
        for call in self.plan.calls:
            inputs = [values[value] for value in call.inputs]
            if call.is_recurrent:
                names = self._state_names[call.name]
                cell = call.layer.cell
                packed = keras.tree.pack_sequence_as(
                    _as_list(cell.state_size), [states[name] for name in names]
                )
                values[call.output], given = cell(inputs[0], packed)
                next_states |= zip(names, keras.tree.flatten(given), strict=True)
            else:
                values[call.output] = _on_frame(call, inputs)
        return values[self.plan.output], next_states


def _as_list(state_size: Any) -> list[Any]:
    return [state_size] if isinstance(state_size, int) else list(state_size)


def _on_frame(call: Call, inputs: list[Any]) -> Any:
    """Calls a per-frame layer; one built for sequences gets a sequence of one frame."""
    as_sequence = call.on_sequences and not isinstance(call.layer, _ANY_RANK_LAYERS)
    if as_sequence:
        inputs = [keras.ops.expand_dims(value, 1) for value in inputs]
    output = call.layer(inputs if len(inputs) > 1 else inputs[0])
    return keras.ops.squeeze(output, 1) if as_sequence else output


def _state_names(call: Call) -> tuple[str, ...]:
    """Names the states of a recurrent layer after it: `lstm_h`, `lstm_c`, `stack_1_h`."""
    cell = call.layer.cell
    if isinstance(cell, keras.layers.StackedRNNCells):
        return tuple(
            name
            for number, inner in enumerate(cell.cells, 1)
            for name in _cell_state_names(inner, f"{call.name}_{number}")
        )
    return _cell_state_names(cell, call.name)


def _cell_state_names(cell: Any, prefix: str) -> tuple[str, ...]:
    count = len(keras.tree.flatten(cell.state_size))
    if count == 1:
        return (f"{prefix}_h",)
    if isinstance(cell, keras.layers.LSTMCell):
        return (f"{prefix}_h", f"{prefix}_c")
    return tuple(f"{prefix}_{number}" for number in range(1, count + 1))

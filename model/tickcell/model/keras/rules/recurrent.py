"""Recurrent layers: the layer's own cell, with the state between two frames."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tickcell.model.keras.rules.rule import (
    Call,
    Rule,
    States,
    Tensors,
    Timing,
    Value,
    naming,
    refusal,
)


class Recurrent(Rule):
    """`SimpleRNN`, `GRU`, `LSTM`, and `RNN` over any cell."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._layer = call.operation
        self._check()
        sequence = call.inputs[0]
        self._sequence = sequence.index
        mask = call.keywords.get("mask")
        self._mask = mask.index if isinstance(mask, Value) else None
        self._names = state_names(self._layer.cell, call.name)
        self.initial_states = dict(zip(self._names, self._starts(), strict=True))
        self._is_repeated = self._mask is not None and not self._layer.zero_output_for_mask
        if self._is_repeated:
            # What a masked frame gives is what the one before gave: zeros at first.
            size = self._output_size()
            self.initial_states[f"{call.name}_output"] = np.zeros(size, np.float32)
        first = Timing.EACH if self._layer.return_sequences else Timing.SO_FAR
        self.gives = [(first, sequence.lag)]
        if self._layer.return_state:
            self.gives += [(Timing.SO_FAR, sequence.lag)] * len(self._names)

    def step(self, tensors: Tensors, states: States, held: Any) -> tuple[list[Any], States]:
        cell = self._layer.cell
        before = [states[name] for name in self._names]
        with naming(cell):
            output, given = cell(
                tensors[self._sequence],
                keras.tree.pack_sequence_as(_listed(cell.state_size), before),
            )
        after = keras.tree.flatten(given)
        following: dict[str, Any] = {}
        if self._mask is not None:
            shown = keras.ops.expand_dims(tensors[self._mask], -1)
            last = f"{self.call.name}_output"
            masked = states[last] if self._is_repeated else keras.ops.zeros_like(output)
            output = keras.ops.where(shown, output, masked)
            after = [
                keras.ops.where(shown, new, old) for new, old in zip(after, before, strict=True)
            ]
            if self._is_repeated:
                following[last] = output
        if held is not None:
            after = [
                keras.ops.where(held, old, new) for new, old in zip(after, before, strict=True)
            ]
            output = keras.ops.where(held, keras.ops.zeros_like(output), output)
        following |= zip(self._names, after, strict=True)
        return [output, *after] if self._layer.return_state else [output], following

    def whole(self, tensors: Tensors) -> list[Any]:
        cell = _Telling(self._layer.cell) if self._layer.return_state else self._layer.cell
        keywords = {} if self._mask is None else {"mask": tensors[self._mask]}
        layer = keras.layers.RNN(
            cell, return_sequences=True, zero_output_for_mask=self._layer.zero_output_for_mask
        )
        with naming(self._layer.cell):
            outputs = layer(tensors[self._sequence], **keywords)
        if not self._layer.return_state:
            return [outputs]
        sizes = [self._output_size(), *keras.tree.flatten(self._layer.cell.state_size)]
        ends = np.cumsum(sizes)
        return [outputs[..., end - size : end] for end, size in zip(ends, sizes, strict=True)]

    def _output_size(self) -> int:
        return int(self.call.shapes[0][-1] or 0)

    def _starts(self) -> list[NDArray[np.float32]]:
        """Returns the cell's states before the first frame, of one series."""
        with naming(self._layer.cell):
            given = keras.tree.flatten(self._layer.get_initial_state(1))
        starts = [np.asarray(keras.ops.convert_to_numpy(each), np.float32)[0] for each in given]
        shapes = [list(start.shape) for start in starts]
        if len(starts) != len(self._names) or any(len(shape) != 1 for shape in shapes):
            raise refusal(
                self.call,
                f"its cell's state has the shapes {shapes}",
                "use a cell whose states are vectors, one for each size in state_size",
            )
        return starts

    def _check(self) -> None:
        call, layer = self.call, self._layer
        if not type(layer).call.__module__.startswith("keras."):
            raise refusal(
                call, "what it does beside its cell is its own", "write that into the cell"
            )
        sequence = call.inputs[0]
        if sequence.timing is not Timing.EACH or sequence.lag < 0:
            raise refusal(
                call,
                "its input is not a sequence of frames",
                "give it the outputs of each frame (return_sequences=True)",
            )
        if layer.go_backwards:
            raise refusal(
                call, "it reads the sequence from its end (go_backwards)", "train it forwards"
            )
        sizes = keras.tree.flatten(layer.cell.state_size)
        if not all(isinstance(size, int) for size in sizes):
            raise refusal(
                call, f"its state has the sizes {sizes}", "use a cell of one size per state"
            )


class _Telling(keras.layers.Layer):  # type: ignore[misc]  # Keras comes without types
    """A cell whose output is followed by its states."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.cell = cell
        self.state_size = cell.state_size
        self.built = True

    def get_initial_state(self, batch_size: Any) -> Any:
        return self.cell.get_initial_state(batch_size)

    def call(self, frame: Any, states: Any) -> Any:
        output, given = self.cell(frame, states)
        return keras.ops.concatenate([output, *keras.tree.flatten(given)], axis=-1), given


def state_names(cell: Any, name: str) -> tuple[str, ...]:
    """Names a cell's states after its layer: `lstm_h`, `lstm_c`, `stack_1_h`."""
    if isinstance(cell, keras.layers.StackedRNNCells):
        return tuple(
            each
            for number, inner in enumerate(cell.cells, 1)
            for each in state_names(inner, f"{name}_{number}")
        )
    count = len(keras.tree.flatten(cell.state_size))
    if count == 1:
        return (f"{name}_h",)
    if isinstance(cell, keras.layers.LSTMCell):
        return (f"{name}_h", f"{name}_c")
    return tuple(f"{name}_{number}" for number in range(1, count + 1))


def _listed(state_size: Any) -> Any:
    return [state_size] if isinstance(state_size, int) else state_size

"""The calls that a Keras model makes of its layers, in order, as plain data.

A model is read once into a `Plan`; `step` and `sequence` then go through the plan in
their own way: one frame at a time, and the whole sequence at once. Reading it is also
where a model that cannot be streamed is refused.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

# Layers that make each frame's result of that frame alone, at inference.
_PER_FRAME_LAYERS = (
    keras.layers.Activation,
    keras.layers.ActivityRegularization,
    keras.layers.Add,
    keras.layers.AlphaDropout,
    keras.layers.Average,
    keras.layers.BatchNormalization,
    keras.layers.Concatenate,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.LayerNormalization,
    keras.layers.LeakyReLU,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    keras.layers.Softmax,
    keras.layers.SpatialDropout1D,
    keras.layers.Subtract,
    keras.layers.UnitNormalization,
)

# Layers whose result depends on the place of an axis, which must be the last one.
_AXIS_LAYERS = (
    keras.layers.BatchNormalization,
    keras.layers.Concatenate,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.Softmax,
    keras.layers.UnitNormalization,
)

_REASONS: dict[type[Any], str] = {
    keras.layers.Bidirectional: "it reads the sequence from its end as well",
    keras.layers.Masking: "it skips frames by their content, and a stream steps on each of them",
    keras.layers.Lambda: "it runs code from the model's file",
    keras.layers.Attention: "it looks at all frames at once",
    keras.layers.AdditiveAttention: "it looks at all frames at once",
    keras.layers.MultiHeadAttention: "it looks at all frames at once",
    keras.layers.GroupQueryAttention: "it looks at all frames at once",
    keras.layers.Conv1D: "it looks at several frames at once",
    keras.layers.Embedding: "it takes whole numbers, and a frame is made of readings",
    keras.layers.Flatten: "it mixes the frames of a sequence",
    keras.layers.Reshape: "it mixes the frames of a sequence",
    keras.layers.Permute: "it mixes the frames of a sequence",
    keras.layers.RepeatVector: "it gives every frame what is known only at the last one",
    keras.layers.GlobalAveragePooling1D: "it looks at all frames at once",
    keras.layers.GlobalMaxPooling1D: "it looks at all frames at once",
}


class UnstreamableError(ValueError):
    """A model cannot be turned into a step that gives the outputs of the whole sequence."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a layer; values are numbered, and the model's input is value 0.

    Attributes:
      layer: the Keras layer.
      inputs: the values it takes.
      output: the value it gives.
      name: the layer's name, made unique where a layer is called more than once.
      on_sequences: the layer was built for `[B, T, ...]`; or else for `[B, ...]`, behind
        a recurrent layer that gives its last output only, or inside `TimeDistributed`.
    """

    layer: Any
    inputs: tuple[int, ...]
    output: int
    name: str
    on_sequences: bool

    @property
    def is_recurrent(self) -> bool:
        """Says whether the layer carries a state from frame to frame."""
        return isinstance(self.layer, keras.layers.RNN)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a model computes.

    Attributes:
      calls: in an order in which each call's inputs are there.
      output: the value that is the model's output.
      sensor_count: F.
      output_count: O.
      step_count: T where the model takes sequences of one length only, or else None.
      series_count: B where the model takes batches of one size only, or else None.
      gives_each_step: the model's own output is `[B, T, O]`, not `[B, O]` at the last frame.
    """

    calls: tuple[Call, ...]
    output: int
    sensor_count: int
    output_count: int
    step_count: int | None
    series_count: int | None
    gives_each_step: bool


def read(model: Any) -> Plan:
    """Reads a Sequential or functional model.

    Raises:
      UnstreamableError: the model cannot be streamed; the message names the layer and why.
    """
    if not isinstance(model, keras.Sequential | keras.Function):
        raise UnstreamableError(
            f"{model.name}: {type(model).__name__} is neither Sequential nor functional, so its "
            "layers cannot be followed; build it from keras.Input and layers."
        )
    frames = _only(model.inputs, model, "input")
    output = _only(model.outputs, model, "output")
    if len(frames.shape) != 3 or frames.shape[2] is None or frames.dtype != "float32":
        raise UnstreamableError(
            f"{model.name}: got the input {frames.dtype} {list(frames.shape)}, expected float32 "
            "[B, T, F] with a known F."
        )
    reader = _Reader()
    last = reader.follow(model, 0)
    if not any(call.is_recurrent for call in reader.calls):
        raise UnstreamableError(f"{model.name}: has no recurrent layer, so it keeps no state.")
    has_time = reader.has_time[last]
    if len(output.shape) != (3 if has_time else 2) or output.shape[-1] is None:
        raise UnstreamableError(
            f"{model.name}: got the output {list(output.shape)}, expected [B, T, O] or [B, O]."
        )
    return Plan(
        calls=tuple(reader.calls),
        output=last,
        sensor_count=frames.shape[2],
        output_count=output.shape[-1],
        step_count=frames.shape[1],
        series_count=frames.shape[0],
        gives_each_step=has_time,
    )


def _only(tensors: list[Any], model: Any, kind: str) -> Any:
    if len(tensors) != 1:
        raise UnstreamableError(f"{model.name}: got {len(tensors)} {kind}s, expected one.")
    return tensors[0]


class _Reader:
    """Collects the calls of a model and of the models inside it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.has_time = {0: True}
        self._names: set[str] = set()

    def follow(self, model: Any, value: int) -> int:
        """Adds the calls of a model that takes a value; returns the value it gives."""
        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                value = self._add(layer, (value,), {})
            return value
        if not isinstance(model, keras.Function):
            raise _refusal(model, "it is neither Sequential nor functional")
        # First, since a mask shows in the calls only as operations of nobody's.
        for operation in model.operations:
            _check_kind(operation)
        values: dict[int, int] = {}
        kept: list[Any] = []  # A tensor's id is only its own while the tensor lives.

        def record(layer: Any, *arguments: Any, **keywords: Any) -> Any:
            tensors = keras.tree.flatten(arguments)
            inputs = tuple(values[id(tensor)] for tensor in tensors)
            output = self._add(layer, inputs, keywords)
            result = layer(*arguments, **keywords)
            if isinstance(result, list | tuple):
                raise _refusal(layer, "it gives more than one tensor")
            values[id(result)] = output
            kept.append(result)
            return result

        frames = keras.tree.map_structure(
            lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype), model.input
        )
        for tensor in keras.tree.flatten(frames):
            values[id(tensor)] = value
        clone = keras.models.clone_model(
            model, input_tensors=frames, clone_function=lambda layer: layer, call_function=record
        )
        return values[id(_only(clone.outputs, model, "output"))]

    def _add(self, layer: Any, inputs: tuple[int, ...], keywords: dict[str, Any]) -> int:
        """Adds one call and returns the value it gives."""
        if isinstance(layer, keras.layers.InputLayer):
            return inputs[0]
        if isinstance(layer, keras.Model):
            return self.follow(layer, inputs[0])
        has_time = self.has_time[inputs[0]]
        if any(self.has_time[value] != has_time for value in inputs):
            raise _refusal(layer, "it joins what is known at each frame with the last frame's")
        on_sequences = has_time
        if isinstance(layer, keras.layers.TimeDistributed):
            layer, on_sequences = layer.layer, False
        _check(layer, on_sequences, keywords)
        output = len(self.has_time)
        self.has_time[output] = has_time
        if isinstance(layer, keras.layers.RNN):
            self.has_time[output] = layer.return_sequences
        self.calls.append(Call(layer, inputs, output, self._unique(layer.name), on_sequences))
        return output

    def _unique(self, name: str) -> str:
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}_call{number}"
        self._names.add(unique)
        return unique


def _check_kind(layer: Any) -> None:
    """Refuses a layer of a kind that never can be streamed."""
    for kind, reason in _REASONS.items():
        if isinstance(layer, kind):
            raise _refusal(layer, reason)


def _check(layer: Any, on_sequences: bool, keywords: dict[str, Any]) -> None:
    """Refuses a layer that does not give the same frame by frame."""
    _check_kind(layer)
    if not isinstance(layer, keras.layers.Layer):
        raise _refusal(layer, "it is an operation outside any layer")
    if any(value is not None and value is not False for value in keywords.values()):
        raise _refusal(layer, f"it is called with {', '.join(sorted(keywords))}")
    if layer.compute_dtype != "float32":
        raise _refusal(layer, f"it computes in {layer.compute_dtype}, not in float32")
    if isinstance(layer, keras.layers.RNN):
        _check_recurrent(layer, on_sequences)
    elif not isinstance(layer, _PER_FRAME_LAYERS):
        raise _refusal(layer, "it is not known to treat each frame on its own")
    elif isinstance(layer, _AXIS_LAYERS):
        rank = 3 if on_sequences else 2
        axes = keras.tree.flatten(layer.axis)
        if any(axis not in (-1, rank - 1) for axis in axes):
            raise _refusal(layer, f"it works along axis {layer.axis}, not along the last one")


def _check_recurrent(layer: Any, on_sequences: bool) -> None:
    if not on_sequences:
        raise _refusal(layer, "its input is not a sequence of frames")
    if layer.go_backwards:
        raise _refusal(layer, "it reads the sequence from its end (go_backwards)")
    if layer.return_state:
        raise _refusal(layer, "it gives its state as an output (return_state)")
    sizes = keras.tree.flatten(layer.cell.state_size)
    if not all(isinstance(size, int) for size in sizes):
        raise _refusal(layer, f"its state has the sizes {sizes}, not one number each")


def _refusal(layer: Any, reason: str) -> UnstreamableError:
    return UnstreamableError(
        f"layer {layer.name!r} ({type(layer).__name__}) cannot be streamed: {reason}."
    )

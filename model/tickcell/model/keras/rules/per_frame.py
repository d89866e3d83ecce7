"""Calls that make each frame's result of that frame alone."""

from __future__ import annotations

from typing import Any

import keras

from tickcell.model.keras.rules.rule import (
    Call,
    Rule,
    States,
    Tensors,
    Timing,
    Value,
    as_list,
    common,
    each_alone,
    refusal,
)

# Layers that do the same to `[B, F]` as to each frame of `[B, T, F]`, wherever they were
# built; calling them without the axis of time keeps the graph free of reshapes.
_ANY_RANK = (
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ReLU,
)


class PerFrame(Rule):
    """Any operation that does not look along time."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        timing, lag = common(call)
        if lag < 0:
            raise refusal(
                call, "zeros are put before the first frame", "pad only what a convolution takes"
            )
        self._timing = timing
        self.check()
        self.gives = [(timing, lag)] * len(call.shapes)

    @property
    def rank(self) -> int:
        """The largest number of axes of an input, with those of series and time."""
        return max(len(value.shape) for value in self.call.inputs)

    @property
    def is_timed(self) -> bool:
        """Says whether the inputs have an axis of time."""
        return self._timing is Timing.EACH

    def check(self) -> None:
        """Refuses a call that looks along time after all."""

    def step(self, tensors: Tensors, states: States, held: Any) -> tuple[list[Any], States]:  # noqa: ARG002 - of the base
        as_sequence = self.is_timed and not isinstance(self.call.operation, _ANY_RANK)
        inputs = {value.index: tensors[value.index] for value in self.call.inputs}
        if as_sequence:
            inputs = {index: keras.ops.expand_dims(each, 1) for index, each in inputs.items()}
        given = as_list(self.call.run(inputs))
        return [keras.ops.squeeze(each, 1) for each in given] if as_sequence else given, {}

    def whole(self, tensors: Tensors) -> list[Any]:
        inputs = {value.index: tensors[value.index] for value in self.call.inputs}
        if self.is_timed:
            return as_list(self.call.run(inputs))
        return each_alone(self.call.run, inputs)


class AlongAxis(PerFrame):
    """What works along axes of its own choice, which must be within a frame."""

    def check(self) -> None:
        axis = getattr(self.call.operation, "axis", None)
        first = 2 if self.is_timed else 1
        axes = keras.tree.flatten(axis)
        rank = self._axis_rank()
        if axis is None or any((each + rank if each < 0 else each) < first for each in axes):
            raise refusal(
                self.call,
                f"it works along axis {axis}, not along the last one",
                "name an axis of the readings, such as -1",
            )

    def _axis_rank(self) -> int:
        # What makes an axis counts it.
        made = type(self.call.operation).__name__ in ("ExpandDims", "Stack")
        return self.rank + 1 if made else self.rank


class Broadcast(PerFrame):
    """Arithmetic between tensors, numbers and constants, element by element."""

    def check(self) -> None:
        leaves = keras.tree.flatten((self.call.arguments, self.call.keywords))
        for leaf in leaves:
            shape = leaf.shape if isinstance(leaf, Value) else getattr(leaf, "shape", ())
            if isinstance(leaf, Value):
                is_aligned = len(shape) == self.rank
            else:
                within = self.rank - (2 if self.is_timed else 1)
                is_aligned = all(size == 1 for size in shape[: max(0, len(shape) - within)])
            if not is_aligned:
                raise refusal(
                    self.call,
                    f"it joins the shapes {list(shape)} and {self.rank} axes across frames",
                    "give both the same axes, and a constant those of one frame",
                )


class Grouped(PerFrame):
    """Normalises groups of readings, over all axes but that of series."""

    def check(self) -> None:
        if self.is_timed:
            raise refusal(
                self.call,
                "it normalises over all frames of the sequence",
                "use LayerNormalization, or TimeDistributed around it",
            )


class Prelu(PerFrame):
    """A slope for each reading."""

    def check(self) -> None:
        if self.is_timed and 1 not in (self.call.operation.shared_axes or ()):
            raise refusal(
                self.call, "it has a slope for each place in the sequence", "use shared_axes=[1]"
            )


class Einsum(PerFrame):
    """A dense layer whose sum is written out."""

    def check(self) -> None:
        given, made = self.call.operation.equation.replace(" ", "").split("->")
        taken, kernel = given.split(",")
        if not self.is_timed or taken.startswith("..."):
            return
        time = taken[1:2]
        if made[1:2] != time or time in kernel:
            raise refusal(
                self.call,
                f"its sum {self.call.operation.equation!r} runs over the frames",
                "sum over readings alone, as 'btf,fo->bto' does",
            )


class Product(PerFrame):
    """A matrix product with constants on its right."""

    def check(self) -> None:
        first, *others = self.call.arguments
        if not isinstance(first, Value) or any(isinstance(each, Value) for each in others):
            raise refusal(
                self.call, "it multiplies matrices that may span frames", "use a Dense layer"
            )


class Reshaped(PerFrame):
    """Another shape for each frame's readings."""

    def check(self) -> None:
        sizes, shape = self.call.inputs[0].frame_shape, self.call.shapes[0]
        self._frame_shape = shape[2:] if self.is_timed else shape[1:]
        if (
            len(shape) < (2 if self.is_timed else 1)
            or None in (*sizes, *self._frame_shape)
            or _product(sizes) != _product(self._frame_shape)
        ):
            raise refusal(
                self.call, "it mixes the frames of a sequence", "keep the axis of time as it is"
            )

    def step(self, tensors: Tensors, states: States, held: Any) -> tuple[list[Any], States]:  # noqa: ARG002 - of the base
        tensor = tensors[self.call.inputs[0].index]
        return [keras.ops.reshape(tensor, (-1, *self._frame_shape))], {}

    def whole(self, tensors: Tensors) -> list[Any]:
        tensor = tensors[self.call.inputs[0].index]
        size = keras.ops.shape(tensor)[:2]
        return [keras.ops.reshape(tensor, (*size, *self._frame_shape))]


class Distributed(Rule):
    """`TimeDistributed`: what is inside sees one frame, whatever it does with it."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        timing, lag = common(call)
        if timing is not Timing.EACH:
            raise refusal(call, "its input is not a sequence of frames", "leave it out")
        self.gives = [(timing, lag)] * len(call.shapes)
        self._input = call.inputs[0].index
        self._in_step = _unrolled(call.operation.layer)

    def step(self, tensors: Tensors, states: States, held: Any) -> tuple[list[Any], States]:  # noqa: ARG002 - of the base
        return as_list(self._in_step(tensors[self._input])), {}

    def whole(self, tensors: Tensors) -> list[Any]:
        layer = self.call.operation.layer
        return each_alone(
            lambda flat: layer(flat[self._input]), {self._input: tensors[self._input]}
        )


def _unrolled(layer: Any) -> Any:
    """Returns a recurrent layer without its loop, which LiteRT cannot compute."""
    if not isinstance(layer, keras.layers.RNN):
        return layer
    return keras.layers.RNN(
        layer.cell,
        return_sequences=layer.return_sequences,
        go_backwards=layer.go_backwards,
        unroll=True,
    )


def _product(sizes: tuple[Any, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product

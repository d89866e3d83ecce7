"""Calls that look at the last few frames: convolutions and pooling, causal or valid."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tickcell.model.keras.rules.rule import (
    Call,
    Rule,
    States,
    Tensors,
    Timing,
    as_list,
    common,
    refusal,
)


class Windowed(Rule):
    """The state is the frames that the next step needs again; zeros before the first."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        sequence = call.inputs[0]
        if sequence.timing is not Timing.EACH or len(sequence.shape) != 3:
            raise refusal(call, "its input is not a sequence of frames", "put it before")
        layer = call.operation
        self._input = sequence.index
        size, stride, self._dilation = self.window()
        self._past = (size - 1) * self._dilation
        if stride != 1:
            raise refusal(
                call,
                f"with strides={stride} it does not give an output at each frame",
                "use strides=1 with dilation, or resample the recording",
            )
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            raise refusal(call, "its axis of time is the last one", "use channels_last")
        if layer.padding == "same" and self._past:
            raise refusal(
                call, "with padding='same' it looks at later frames", "use padding='causal'"
            )
        lag = sequence.lag
        if layer.padding == "valid":
            lag += self._past
        if lag < 0 or (layer.padding != "valid" and sequence.lag < 0):
            raise refusal(
                call,
                f"more zeros come before the first frame than the {self._past} it looks back",
                "use padding='causal'",
            )
        self._state = f"{call.name}_frames"
        if self._past:
            shape = (self._past, int(sequence.shape[2] or 0))
            self.initial_states = {self._state: np.zeros(shape, np.float32)}
        self.gives = [(Timing.EACH, lag)]

    def step(self, tensors: Tensors, states: States, held: Any) -> tuple[list[Any], States]:
        frames = keras.ops.expand_dims(tensors[self._input], 1)
        if not self._past:
            return [keras.ops.squeeze(self.apply(frames), 1)], {}
        frames = keras.ops.concatenate([states[self._state], frames], axis=1)
        output = keras.ops.squeeze(self.apply(frames[:, :: self._dilation]), 1)
        following = frames[:, 1:]
        if held is not None:
            following = keras.ops.where(
                keras.ops.expand_dims(held, -1), states[self._state], following
            )
        return [output], {self._state: following}

    def whole(self, tensors: Tensors) -> list[Any]:
        return as_list(self.call.run(tensors))

    def window(self) -> tuple[int, int, int]:
        """Returns how many frames it looks at, every how many, and how far apart they are."""
        layer = self.call.operation
        return layer.kernel_size[0], layer.strides[0], layer.dilation_rate[0]

    def apply(self, frames: Any) -> Any:
        """Makes one output `[B, 1, C]` of the frames it looks at, `[B, K, F]`."""
        raise NotImplementedError


class Convolution(Windowed):
    """`Conv1D`, with groups too."""

    def apply(self, frames: Any) -> Any:
        layer = self.call.operation
        size, channels, filters = layer.kernel.shape
        if layer.groups == 1:
            taps = keras.ops.reshape(frames, (-1, size * channels))
            kernel = keras.ops.reshape(layer.kernel, (size * channels, filters))
            output = keras.ops.expand_dims(keras.ops.matmul(taps, kernel), 1)
        else:
            output = keras.ops.conv(frames, layer.kernel, padding="valid")
        return finished(layer, output)


class DepthwiseConvolution(Windowed):
    """`DepthwiseConv1D`: each reading on its own."""

    def apply(self, frames: Any) -> Any:
        layer = self.call.operation
        return finished(layer, depthwise(frames, layer.kernel))


class SeparableConvolution(Windowed):
    """`SeparableConv1D`: each reading on its own, then all of them at each frame."""

    def apply(self, frames: Any) -> Any:
        layer = self.call.operation
        output = depthwise(frames, layer.depthwise_kernel)
        kernel = keras.ops.squeeze(layer.pointwise_kernel, 0)
        return finished(layer, keras.ops.matmul(output, kernel))


class Pooling(Windowed):
    """`MaxPooling1D` and `AveragePooling1D` at every frame."""

    def window(self) -> tuple[int, int, int]:
        layer = self.call.operation
        return layer.pool_size[0], layer.strides[0], 1

    def apply(self, frames: Any) -> Any:
        return self.call.operation(frames)


class Shifted(Rule):
    """`ZeroPadding1D` and `Cropping1D` at the front: only where the sequence begins."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        timing, lag = common(call)
        layer = call.operation
        pads = isinstance(layer, keras.layers.ZeroPadding1D)
        front, back = layer.padding if pads else layer.cropping
        if timing is not Timing.EACH or back or (pads and lag):
            raise refusal(
                call, "it moves frames in time other than before the first", "use (count, 0)"
            )
        self._input = call.inputs[0].index
        self.gives = [(timing, lag - front if pads else lag + front)]

    def step(self, tensors: Tensors, states: States, held: Any) -> tuple[list[Any], States]:  # noqa: ARG002 - of the base
        return [tensors[self._input]], {}

    def whole(self, tensors: Tensors) -> list[Any]:
        return as_list(self.call.run(tensors))


def depthwise(frames: Any, kernel: Any) -> Any:
    """Sums `[B, K, F]` over its frames with a kernel `[K, F, M]`; returns `[B, 1, F * M]`."""
    output = keras.ops.sum(keras.ops.expand_dims(frames, -1) * kernel, axis=1, keepdims=True)
    return keras.ops.reshape(output, (-1, 1, kernel.shape[1] * kernel.shape[2]))


def finished(layer: Any, output: Any) -> Any:
    """Adds a layer's bias and applies its activation."""
    if layer.use_bias:
        output = keras.ops.add(output, layer.bias)
    return output if layer.activation is None else layer.activation(output)

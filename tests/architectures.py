"""Models as people build them: what each kind of layer is for, small but not trivial."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

Build = Callable[[], Any]

registered = keras.saving.register_keras_serializable(package="tests")


def frames(step_count: int | None = 40, sensor_count: int = 6, **keywords: Any) -> Any:
    return keras.Input((step_count, sensor_count), **keywords)


def of(body: Callable[[Any], Any], step_count: int | None = 40) -> Build:
    """A model of one sequence."""

    def build() -> Any:
        sequence = frames(step_count)
        return keras.Model(sequence, body(sequence))

    return build


def each(value: Any, units: int = 8, **keywords: Any) -> Any:
    """A recurrent layer that gives its output at each frame."""
    return layers.LSTM(units, return_sequences=True, **keywords)(value)


def last(value: Any) -> Any:
    return layers.GRU(5)(value)


def dense(value: Any, units: int = 1, **keywords: Any) -> Any:
    return layers.Dense(units, **keywords)(value)


def tcn(value: Any) -> Any:
    """Dilated causal convolutions with skips."""
    value = layers.Conv1D(8, 1)(value)
    for dilation in (1, 2, 4, 8):
        inner = layers.Conv1D(8, 3, padding="causal", dilation_rate=dilation, activation="relu")(
            value
        )
        value = layers.Add()([value, layers.Dropout(0.1)(inner)])
    return value


def gated(value: Any) -> Any:
    left, right = ops.split(each(value), 2, axis=-1)
    return left * ops.sigmoid(right)


def states_used(value: Any) -> Any:
    _, hidden, carried = layers.LSTM(8, return_state=True)(value)
    return dense(layers.Concatenate()([hidden, carried]))


def reshaped(value: Any) -> Any:
    pairs = layers.TimeDistributed(layers.Dense(2))(layers.Reshape((40, 3, 2))(value))
    return each(layers.Reshape((40, 6))(pairs))


def mixture(value: Any) -> Any:
    value = layers.LSTM(8)(value)
    weights, means = dense(value, 3, activation="softmax"), dense(value, 3)
    return layers.Concatenate()([weights, means, dense(value, 3, activation="softplus")])


def heads(value: Any) -> tuple[Any, Any]:
    value = layers.GRU(8, return_sequences=True)(value)
    return dense(value, name="speed"), dense(value, 4, activation="softmax", name="activity")


def nested(masked: bool) -> Build:
    def body(value: Any) -> Any:
        inner = keras.Sequential([frames(None), layers.GRU(6, return_sequences=True)])
        return dense(inner(inner(layers.Masking()(value) if masked else value)))

    return of(body)


def carried_by_hand() -> Any:
    sequence, hidden, cell = frames(None), keras.Input((8,)), keras.Input((8,))
    outputs = layers.LSTM(8, return_sequences=True, return_state=True)(
        sequence, initial_state=[hidden, cell]
    )
    return keras.Model([sequence, hidden, cell], [dense(outputs[0]), *outputs[1:]])


def carried_by_hand_without_a_name() -> Any:
    sequence, start = frames(None), keras.Input((8,))
    value, following = layers.GRU(8, return_sequences=True, return_state=True)(sequence, start)
    return keras.Model([sequence, start], [dense(value), following])


def carried_by_hand_in_another_order() -> Any:
    first, second, sequence = keras.Input((8,)), keras.Input((4,)), frames(1)
    value, next_first = layers.GRU(8, return_sequences=True, return_state=True)(
        sequence, initial_state=first
    )
    value, next_second = layers.GRU(4, return_state=True)(value, initial_state=second)
    return keras.Model([second, sequence, first], [next_first, dense(value), next_second])


def side_by_side() -> Any:
    left, right = frames(40, 3, name="acc"), frames(40, 2, name="gyro")
    joined = layers.Concatenate()([left, right])
    return keras.Model({"acc": left, "gyro": right}, dense(layers.LSTM(8)(joined)))


def towers() -> Any:
    left, right = frames(40, 3), frames(40, 2)
    joined = layers.Concatenate()([layers.LSTM(8)(left), last(right)])
    return keras.Model([left, right], dense(joined))


def static_features() -> Any:
    sequence, static = frames(40, 3), keras.Input((2,))
    joined = layers.Concatenate()([layers.LSTM(8)(sequence), dense(static, 3)])
    return keras.Model([sequence, static], dense(joined))


def static_features_repeated() -> Any:
    sequence, static = frames(40, 3), keras.Input((2,))
    joined = layers.Concatenate()([sequence, layers.RepeatVector(40)(static)])
    return keras.Model([sequence, static], dense(each(joined)))


def in_float64() -> Any:
    sequence = frames(dtype="float64")
    value = layers.GRU(5, dtype="float64")(sequence)
    return keras.Model(sequence, layers.Dense(1, dtype="float64")(value))


def of_whole_numbers() -> Any:
    sequence = frames(dtype="int32")
    return keras.Model(sequence, dense(last(layers.Rescaling(0.1)(sequence))))


def of_words() -> Any:
    return keras.Sequential(
        [keras.Input((40,), dtype="int32"), layers.Embedding(10, 4), layers.LSTM(3)]
    )


def of_masked_words() -> Any:
    sequence = keras.Input((None,), dtype="int32")
    return keras.Model(sequence, dense(last(layers.Embedding(10, 4, mask_zero=True)(sequence))))


def within_frames(layer: Any) -> Build:
    """A layer that sees one frame, which is itself a small sequence."""

    def build() -> Any:
        sequence = keras.Input((10, 6, 2))
        value = layers.TimeDistributed(layer())(sequence)
        if len(value.shape) > 3:
            value = layers.TimeDistributed(layers.Flatten())(value)
        return keras.Model(sequence, dense(last(value)))

    return build


@registered
class Subclassed(keras.Model):  # type: ignore[misc]  # Keras comes without types
    """A model with calls of its own."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.recurrent = layers.LSTM(8, return_sequences=True)
        self.head = layers.Dense(1)

    def call(self, value: Any) -> Any:
        return self.head(ops.tanh(self.recurrent(value / 2.0)))


@registered
class OfADict(keras.Model):  # type: ignore[misc]  # Keras comes without types
    """A model with calls of its own that takes and gives dicts."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.recurrent = layers.GRU(6)

    def call(self, value: Any) -> Any:
        return {"way": self.recurrent(ops.concatenate([value["left"], value["right"]], axis=-1))}


@registered
class FunctionalInside(keras.Model):  # type: ignore[misc]  # Keras comes without types
    """A class of its own around a functional model."""

    def __init__(self, **keywords: Any) -> None:
        sequence = frames()
        super().__init__(sequence, dense(layers.LSTM(8)(sequence)), **keywords)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}


@registered
class Doubled(layers.Layer):  # type: ignore[misc]  # Keras comes without types
    """A layer of somebody's own that treats each frame on its own."""

    def call(self, value: Any) -> Any:
        return value * 2.0


@registered
class Cumulative(layers.Layer):  # type: ignore[misc]  # Keras comes without types
    """A layer of somebody's own that does not."""

    def call(self, value: Any) -> Any:
        return ops.cumsum(value, axis=1)


@registered
class LearntStart(layers.Layer):  # type: ignore[misc]  # Keras comes without types
    """A cell of somebody's own that does not start from zeros."""

    def __init__(self, units: int = 5, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.state_size = units

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.state_size))
        self.start = self.add_weight(shape=(self.state_size,), initializer="random_normal")

    def call(self, frame: Any, states: Any) -> Any:
        state = ops.tanh(ops.matmul(frame, self.kernel) + 0.5 * states[0])
        return state, [state]

    def get_initial_state(self, batch_size: Any) -> Any:
        return [ops.tile(self.start[None], (batch_size, 1))]


@registered
class Forty(layers.Layer):  # type: ignore[misc]  # Keras comes without types
    """A layer of somebody's own that takes sequences of one length only."""

    def call(self, value: Any) -> Any:
        if value.shape[1] != 40:
            raise RuntimeError("I take 40 frames.\nNo more.")
        return value


@registered
class Doubling(layers.GRU):  # type: ignore[misc]  # Keras comes without types
    """A recurrent layer that does more than its cell."""

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None) -> Any:
        return super().call(sequences, initial_state=initial_state, mask=mask) * 2.0


@registered
class MatrixState(layers.Layer):  # type: ignore[misc]  # Keras comes without types
    """A cell of somebody's own whose state is a matrix."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.state_size = [(3, 3)]
        self.output_size = 6

    def call(self, frame: Any, states: Any) -> Any:
        return frame, [states[0] + 1.0]

    def get_initial_state(self, batch_size: Any) -> Any:
        return [ops.zeros((batch_size, 3, 3))]


def called(model: Any, *names: str) -> Any:
    zeros = np.zeros((1, 40, 6), np.float32)
    model(dict.fromkeys(names, zeros) if names else zeros)
    return model


def quantised() -> Any:
    model = keras.Sequential([frames(), layers.LSTM(8, return_sequences=True), layers.Dense(4)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says that an input cannot be quantised.
        model.quantize("int8")
    return model


STREAMED: dict[str, Build] = {
    "LSTM last": of(lambda x: dense(layers.LSTM(8)(x), activation="sigmoid")),
    "GRU each": of(lambda x: dense(layers.GRU(8, return_sequences=True)(x)), None),
    "GRU not reset after": of(lambda x: dense(layers.GRU(8, reset_after=False)(x))),
    "unrolled": of(lambda x: dense(layers.LSTM(8, unroll=True)(x))),
    "relu LSTM": of(lambda x: dense(layers.LSTM(6, activation="relu")(x))),
    "stateful": lambda: keras.Sequential(
        [
            keras.Input(batch_shape=(1, 1, 6)),
            layers.LSTM(6, stateful=True, return_sequences=True),
            layers.Dense(2),
        ]
    ),
    "activity recognition": of(
        lambda x: dense(layers.LSTM(12)(each(x, 12)), 6, activation="softmax")
    ),
    "nested": nested(masked=False),
    "masking": of(lambda x: dense(each(layers.Masking()(x))), None),
    "masking by -1, last": of(lambda x: dense(last(layers.Dropout(0.2)(layers.Masking(-1.0)(x))))),
    "masking, Sequential": lambda: keras.Sequential(
        [frames(None), layers.Masking(), layers.GRU(5, return_sequences=True), layers.LSTM(4)]
    ),
    "masking, mean": of(
        lambda x: dense(layers.GlobalAveragePooling1D()(each(layers.Masking()(x))))
    ),
    "masking, beside": of(lambda x: dense(each(layers.Concatenate()([layers.Masking()(x), x])))),
    "masking, nested": nested(masked=True),
    "masking, stacked cells": of(
        lambda x: layers.RNN([layers.LSTMCell(3), layers.GRUCell(4)], return_sequences=True)(
            layers.Masking()(x)
        )
    ),
    "masking, ended by Conv1D": of(
        lambda x: dense(each(layers.Conv1D(4, 2, padding="causal")(layers.Masking()(x))))
    ),
    "Conv1D causal, LSTM": of(
        lambda x: dense(each(layers.Conv1D(8, 3, padding="causal", activation="relu")(x)))
    ),
    "Conv1D valid, LSTM": of(lambda x: dense(each(layers.Conv1D(8, 3)(x)))),
    "Conv1D valid twice, last": of(
        lambda x: dense(last(layers.Conv1D(8, 3)(layers.Conv1D(4, 4)(x))))
    ),
    "Conv1D behind LSTM": of(lambda x: layers.Conv1D(2, 5, padding="causal")(each(x)), None),
    "Conv1D kernel 1": of(lambda x: each(layers.Conv1D(8, 1, padding="same")(x))),
    "SeparableConv1D": of(lambda x: each(layers.SeparableConv1D(8, 3, depth_multiplier=2)(x))),
    "DepthwiseConv1D": of(lambda x: each(layers.DepthwiseConv1D(3, depth_multiplier=2)(x))),
    "Conv1D in groups": of(lambda x: each(layers.Conv1D(6, 3, groups=2, padding="causal")(x))),
    "ZeroPadding1D, Conv1D": of(
        lambda x: each(layers.Conv1D(8, 3)(layers.ZeroPadding1D((2, 0))(x)))
    ),
    "Cropping1D, skip": of(
        lambda x: each(layers.Add()([layers.Conv1D(6, 3)(x), layers.Cropping1D((2, 0))(x)]))
    ),
    "MaxPooling1D, strides=1": of(lambda x: each(layers.MaxPooling1D(3, strides=1)(x))),
    "AveragePooling1D, strides=1": of(lambda x: each(layers.AveragePooling1D(3, strides=1)(x))),
    "TCN": of(lambda x: dense(tcn(x), 3, activation="softmax"), None),
    "TCN, GRU": of(lambda x: dense(last(tcn(x)))),
    "TCN, mean": of(lambda x: dense(layers.GlobalAveragePooling1D()(tcn(x))), None),
    "TimeDistributed Conv1D": within_frames(lambda: layers.Conv1D(3, 3)),
    "TimeDistributed LSTM": within_frames(lambda: layers.LSTM(3)),
    "TimeDistributed model": of(
        lambda x: each(
            layers.TimeDistributed(
                keras.Sequential([keras.Input((6,)), layers.Dense(5, "tanh"), layers.Dense(3)])
            )(x)
        ),
        None,
    ),
    "input over a number": of(lambda x: dense(each(x / 9.81))),
    "number times output": of(lambda x: 125.0 * dense(layers.LSTM(8)(x), activation="sigmoid")),
    "1 - output": of(lambda x: 1 - dense(each(x), activation="sigmoid")),
    "last by slice": of(lambda x: dense(each(x)[:, -1])),
    "some sensors": of(lambda x: dense(each(x[:, :, :3]))),
    "some sensors by ...": of(lambda x: dense(each(x[..., 1:4]))),
    "tanh and clip": of(lambda x: ops.clip(ops.tanh(each(x) + 0.1), -0.5, 0.5)),
    "concatenate": of(lambda x: dense(ops.concatenate([each(x), x], axis=-1))),
    "residual by +": of(lambda x: dense(each(x, 6) + x)),
    "split and gate": of(gated),
    "norm of three": of(
        lambda x: each(ops.sqrt(ops.sum(ops.square(x[:, :, :3]), axis=-1, keepdims=True)))
    ),
    "times a constant matrix": of(
        lambda x: dense(each(ops.matmul(x, np.eye(6, dtype=np.float32)[:, ::-1] * 2)))
    ),
    "mean by keras.ops": of(lambda x: dense(ops.mean(each(x), axis=1))),
    "smallest by keras.ops": of(lambda x: dense(ops.min(each(x), axis=1))),
    "GlobalAveragePooling1D": of(lambda x: dense(layers.GlobalAveragePooling1D()(each(x)))),
    "GlobalMaxPooling1D": of(lambda x: dense(layers.GlobalMaxPooling1D()(each(x)))),
    "EinsumDense": of(
        lambda x: layers.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d")(each(x))
    ),
    "RMSNormalization": of(lambda x: layers.RMSNormalization()(each(x))),
    "SpectralNormalization": of(lambda x: layers.SpectralNormalization(layers.Dense(3))(each(x))),
    "GroupNormalization in a frame": of(
        lambda x: layers.TimeDistributed(layers.GroupNormalization(2))(each(x))
    ),
    "GroupNormalization, last": of(lambda x: layers.GroupNormalization(2)(layers.LSTM(8)(x))),
    "Reshape in a frame": of(reshaped),
    "Reshape of any length": of(
        lambda x: each(layers.Reshape((-1, 6))(layers.Reshape((-1, 3, 2))(x))), None
    ),
    "Flatten behind the last": of(lambda x: dense(layers.Flatten()(layers.LSTM(8)(x)))),
    "return_state unused": of(
        lambda x: dense(layers.LSTM(8, return_sequences=True, return_state=True)(x)[0])
    ),
    "return_state used": of(states_used),
    "state given out": of(
        lambda x: list(layers.GRU(8, return_sequences=True, return_state=True)(x))
    ),
    "state by hand": carried_by_hand,
    "state by hand, without a name": carried_by_hand_without_a_name,
    "state by hand, another order": carried_by_hand_in_another_order,
    "two inputs": side_by_side,
    "two towers": towers,
    "static features": static_features,
    "static features repeated": static_features_repeated,
    "two heads": of(lambda x: list(heads(x))),
    "two heads in a dict": of(lambda x: dict(zip(("speed", "activity"), heads(x), strict=True))),
    "one output in a dict": of(lambda x: {"speed": dense(layers.LSTM(8)(x))}),
    "PReLU, shared": of(lambda x: layers.PReLU(shared_axes=[1])(each(x))),
    "mixed precision": lambda: keras.Sequential(
        [
            frames(),
            layers.LSTM(8, dtype="mixed_float16"),
            layers.Dense(1, dtype="mixed_float16"),
        ]
    ),
    "float64": in_float64,
    "whole numbers": of_whole_numbers,
    "Embedding": of_words,
    "Embedding, 0 masked": of_masked_words,
    "subclassed": lambda: called(Subclassed()),
    "subclassed, of a dict": lambda: called(OfADict(), "left", "right"),
    "functional inside": FunctionalInside,
    "own layer": of(lambda x: each(Doubled()(x))),
    "own cell, learnt start": of(lambda x: dense(layers.RNN(LearntStart())(x))),
    "own cell, masked": of(lambda x: dense(layers.RNN(LearntStart())(layers.Masking()(x)))),
    "forecast": of(lambda x: layers.Reshape((24, 1))(dense(layers.LSTM(8)(x), 24))),
    "mixture density": of(mixture),
    "mean of a matrix": of(
        lambda x: layers.Flatten()(ops.mean(layers.Reshape((40, 4, 2))(each(x)), axis=1))
    ),
    "mean of one reading": of(
        lambda x: layers.Reshape((1,))(ops.mean(each(layers.Masking()(x))[:, :, 0], axis=1))
    ),
    "largest norm": of(lambda x: layers.Reshape((1,))(ops.max(ops.norm(each(x), axis=-1), axis=1))),
    "largest of a matrix, behind Conv1D valid": of(
        lambda x: layers.Flatten()(
            ops.max(layers.Reshape((-1, 4, 2))(layers.Conv1D(8, 3)(x)), axis=1)
        ),
        None,
    ),
    "last by ...": of(lambda x: each(x)[..., -1, :]),
    "Dropout that always drops": of(
        lambda x: dense(layers.Dropout(0.5)(each(layers.RandomContrast(0.5)(x)), training=True))
    ),
    "operations that no table knows": of(
        lambda x: ops.sort(ops.normalize(each(ops.tile(x, (1, 1, 2)), 4), axis=-1), axis=-1)
    ),
    "Conv2D within frames": of(
        lambda x: each(
            layers.Reshape((40, 12))(
                layers.Conv2D(2, (1, 3), padding="same")(layers.Reshape((40, 6, 1))(x))
            )
        )
    ),
    "masking, zeros for what is masked": of(
        lambda x: layers.LSTM(4, return_sequences=True, zero_output_for_mask=True)(
            layers.Masking()(x)
        )
    ),
    "states of one name": of(
        lambda x: layers.Concatenate()(
            [
                layers.RNN([layers.GRUCell(3), layers.GRUCell(2)], name="rnn")(x),
                layers.GRU(4, name="rnn_1")(x),
            ]
        )
    ),
    "heads in a dict in a dict": of(lambda x: {"a": {"b": each(x), "c": last(x)}, "d": [last(x)]}),
    "of small whole numbers": lambda: keras.Model(
        x := frames(dtype="uint8"), dense(last(layers.Rescaling(0.1)(x)))
    ),
    "longer than what is drawn": of(lambda x: dense(last(x)), 12_000),
}

# Where nothing reads the output that a masked frame gives again: what is behind is masked as
# well, or Keras joins masks so that no frame is masked.
UNREAD = {
    "masking, Sequential": "gru_output",
    "masking, mean": "lstm_output",
    "masking, beside": "lstm_output",
    "masking, nested": "gru_output",
}

REFUSED: dict[str, tuple[Build, str]] = {
    "Bidirectional": (
        of(lambda x: layers.Bidirectional(layers.LSTM(3), name="both")(x)),
        r"layer 'both' \(Bidirectional\) .* from its end .*; train the forward layer alone\.",
    ),
    "go_backwards": (
        of(lambda x: layers.LSTM(3, go_backwards=True, name="back")(x)),
        r"layer 'back' \(LSTM\) .* \(go_backwards\); ",
    ),
    "attention": (
        of(lambda x: layers.Attention(name="gaze")([x, x])),
        r"layer 'gaze' \(Attention\) .* all frames at once; use a recurrent layer",
    ),
    "causal attention": (
        of(lambda x: layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)),
        r"\(MultiHeadAttention\) .* all frames at once",
    ),
    "Conv1D, same": (
        of(lambda x: each(layers.Conv1D(3, 3, padding="same")(x))),
        r"\(Conv1D\) .* later frames; use padding='causal'\.",
    ),
    "Conv1D, strides": (
        of(lambda x: each(layers.Conv1D(3, 3, strides=2, padding="causal")(x))),
        r"\(Conv1D\) .* strides=2 .* use strides=1 with dilation",
    ),
    "MaxPooling1D": (
        of(lambda x: each(layers.MaxPooling1D(2)(x))),
        r"\(MaxPooling1D\) .* strides=2 ",
    ),
    "skip of another length": (
        of(
            lambda x: each(
                layers.Concatenate(axis=-1)([ops.tanh(x)[:, 2:], layers.Conv1D(6, 3)(x)])
            )
        ),
        r"'get_item\w*' \(GetItem\) .* part of the sequence; take the last frame",
    ),
    "ZeroPadding1D at both ends": (
        of(lambda x: each(layers.ZeroPadding1D(1, name="longer")(x))),
        r"layer 'longer' \(ZeroPadding1D\) .* use \(count, 0\)\.",
    ),
    "zeros before a recurrent layer": (
        of(lambda x: each(layers.ZeroPadding1D((2, 0))(x))),
        r"\(LSTM\) .* not a sequence of frames",
    ),
    "first frame by ...": (
        of(lambda x: dense(each(x)[..., 0, :])),
        r"\(GetItem\) .* part of the sequence",
    ),
    "first frame": (
        of(lambda x: dense(each(x)[:, 0])),
        r"\(GetItem\) .* part of the sequence",
    ),
    "repeated last": (
        of(lambda x: each(layers.RepeatVector(40, name="again")(layers.LSTM(4)(x)))),
        r"layer 'again' \(RepeatVector\) .* only at the last one",
    ),
    "start computed": (
        of(lambda x: layers.GRU(8, name="second")(x, initial_state=dense(x[:, -1], 8))),
        r"layer 'second' \(GRU\) .* initial_state is computed from the model's inputs, ",
    ),
    "start learnt from the first frame": (
        of(
            lambda x: each(
                layers.GRU(8, name="primed", return_sequences=True)(
                    x, initial_state=dense(x[:, 0], 8)
                )
            )
        ),
        r"layer 'primed' \(GRU\) .* before it has any; let it start from zeros, ",
    ),
    "start learnt from a static input": (
        lambda: keras.Model(
            [x := frames(), static := keras.Input((3,))],
            layers.GRU(8, name="primed")(x, dense(static, 8)),
        ),
        r"layer 'primed' \(GRU\) .* initial_state is computed",
    ),
    "start constant": (
        of(lambda x: layers.GRU(8, name="warm")(x, initial_state=ops.ones((1, 8)))),
        r"layer 'warm' \(GRU\) .* initial_state is a constant of the model; let it start",
    ),
    "start not given back": (
        lambda: keras.Model(
            [x := frames(), h := keras.Input((8,))], layers.GRU(8, name="open")(x, initial_state=h)
        ),
        r"layer 'open': starts from an input that the model does not give back",
    ),
    "joined with the last": (
        lambda: keras.Model(
            x := frames(1, 3),
            layers.Add(name="joined")([layers.GRU(3, return_sequences=True)(x), layers.GRU(3)(x)]),
        ),
        r"layer 'joined' \(Add\) .* not of one frame",
    ),
    "Permute": (of(lambda x: each(layers.Permute((2, 1))(x))), r"\(Permute\) .* axis of time"),
    "Flatten over time": (
        of(lambda x: dense(layers.Flatten()(each(x)))),
        r"\(Flatten\) .* mixes the frames",
    ),
    "PReLU per time step": (
        of(lambda x: layers.PReLU(name="slope")(each(x))),
        r"layer 'slope' \(PReLU\) .*; use shared_axes=\[1\]\.",
    ),
    "BatchNormalization along time": (
        of(lambda x: layers.BatchNormalization(axis=1, name="over_time")(each(x))),
        r"layer 'over_time' \(BatchNormalization\) .* axis",
    ),
    "GroupNormalization over time": (
        of(lambda x: layers.GroupNormalization(2)(each(x))),
        r"\(GroupNormalization\) .* all frames",
    ),
    "sum over time": (
        of(lambda x: dense(ops.sum(each(x), axis=1))),
        r"\(Sum\) .* along axis \[1\]",
    ),
    "ConvLSTM": (
        lambda: keras.Model(
            x := keras.Input((10, 6, 2)), layers.ConvLSTM1D(3, 3, return_sequences=True)(x)
        ),
        r"\(ConvLSTM1D\) .* image; use TimeDistributed",
    ),
    "Embedding of computed numbers": (
        of(lambda x: last(layers.Embedding(6, 4)(ops.argmax(x, axis=-1)))),
        r"\(Embedding\) .* computed, and not readings; give it an input",
    ),
    "no axis of readings": (
        lambda: keras.Model(x := keras.Input((40,)), layers.LSTM(3)(layers.Reshape((40, 1))(x))),
        r"not a sequence of frames",
    ),
    "masked behind a layer": (
        of(lambda x: each(layers.Masking(name="mask")(layers.Dense(3)(x)))),
        r"layer 'mask' \(Masking\) .* could round; put it right behind the input",
    ),
    "int8": (quantised, r"quantised"),
    "own layer over time": (
        of(lambda x: each(Cumulative(name="sums")(x))),
        r"layer 'sums' \(Cumulative\) .* other frames; write it as a cell",
    ),
    "own layer that raises": (
        of(lambda x: each(Forty(name="forty")(x))),
        r"layer 'forty' \(Forty\) .* raises RuntimeError: I take 40 frames; let it take any number",
    ),
    "own recurrent layer": (
        of(lambda x: Doubling(3, name="twice")(x)),
        r"layer 'twice' \(Doubling\) .* write that into the cell\.",
    ),
    "own cell of a matrix": (
        of(lambda x: layers.RNN(MatrixState(), name="square")(x)),
        r"layer 'square' \(RNN\) .* \[\[3, 3\]\]; use a cell whose states are vectors",
    ),
    "words": (
        lambda: keras.Model(
            x := keras.Input((40,), dtype="string"),
            layers.GRU(2)(layers.Embedding(3, 4)(layers.StringLookup(vocabulary=["a"])(x))),
        ),
        r"input '\w+': got string \[None, 40\], expected \[B, T, F\].* of numbers",
    ),
    "frames turned around": (
        of(lambda x: each(ops.flip(x, axis=1))),
        r"\(Flip\) .* other frames; use a recurrent layer",
    ),
    "never built": (
        lambda: keras.Sequential([layers.LSTM(4), layers.Dense(1)]),
        r"was never built, so its inputs are unknown; begin it with keras\.Input",
    ),
    "no state": (
        lambda: keras.Sequential([frames(None), layers.Dense(2)]),
        r"keeps no state.* call it on each frame",
    ),
    "flat input": (
        lambda: keras.Sequential([keras.Input((4,)), layers.Dense(2)]),
        r"shapes \[\[None, 4\]\], expected \[B, T, F\]; ",
    ),
    "inputs of two lengths": (
        lambda: keras.Model(
            [x := frames(40), y := frames(20)], layers.Add()([layers.GRU(3)(x), layers.GRU(3)(y)])
        ),
        r"different lengths \[20, 40\]; give all sensors one rate",
    ),
}

"""The outputs of a Keras model over whole sequences: what streaming is compared with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tickcell.model.keras import archive, graph, plan
from tickcell.model.keras.plan import Plan
from tickcell.model.keras.rules.rule import Timing, Value, naming
from tickcell.model.keras.step import split

if TYPE_CHECKING:
    from numpy.typing import NDArray


def full_sequence(path: str | os.PathLike[str], frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Runs a saved model over a whole sequence at once.

    Args:
      path: a `.keras` file.
      frames: `[T, F]` float32, in the sensors' own units.

    Returns:
      `[T, O]` float32: the output at each frame; NaN where the model has none yet.

    Raises:
      ModelFileError: the file cannot be loaded.
      UnstreamableError: the model has no output at each frame.
    """
    model = graph.as_float32(archive.load(path))
    with naming(model):
        return np.asarray(outputs(plan.read(model), frames[np.newaxis])[0], np.float32)


def outputs(read: Plan, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Runs a model's own layers over whole sequences of any length, from its first state.

    A model that gives only its last output is asked for the output that it would give
    at each frame.

    Args:
      read: of the model.
      frames: `[B, T, F]` float32.

    Returns:
      `[B, T, O]` float32; NaN where a head has nothing for the first frames.
    """

    def run(rows: Any) -> list[Any]:
        values = split(read, rows)
        for bound in read.bound:
            with naming(bound.rule.call.operation):
                given = bound.rule.whole(values)
            values |= zip((value.index for value in bound.outputs), given, strict=True)
        return [keras.ops.cast(values[head.value.index], "float32") for head in read.heads]

    # Of unknown length while it is traced, lest a layer lays its loop over time out.
    any_length = tf.TensorSpec((None, None, read.sensor_count), tf.float32)
    function = tf.function(run, [any_length], autograph=False)
    heads = [np.asarray(each) for each in function(tf.constant(frames))]
    return _aligned(heads, frames.shape[1])


def as_trained(
    model: Any, read: Plan, frames: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Runs a model itself, as it was trained.

    Args:
      model: as it was loaded.
      read: its plan.
      frames: `[B, T, F]` float32, with B and T that the model takes.

    Returns:
      Its outputs `[B, T, O]`, and `[T, O]`: which of them it gives.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            layer.reset_state()
    # As a graph: eagerly, a loop over thousands of frames takes minutes.
    called = tf.function(lambda arguments: model(arguments, training=False), autograph=False)
    with naming(model):
        given = keras.tree.flatten(called(_arguments(read, frames)))
    heads = [np.asarray(each) for each, shown in zip(given, read.gives_heads, strict=True) if shown]
    padded = []
    for head, each in zip(read.heads, heads, strict=True):
        timed = head.value.timing is Timing.EACH
        rows = each if timed else each[:, np.newaxis]
        padded.append(rows.reshape(*rows.shape[:2], -1).astype(np.float32))
    aligned = _aligned(padded, frames.shape[1])
    return aligned, np.asarray(~np.isnan(aligned).all(axis=0), np.bool_)


def _arguments(read: Plan, frames: NDArray[np.float32]) -> Any:
    """Returns what a model is called with: static inputs once, and zeros for its states."""
    columns = {value.index: place for value, place in read.columns()}

    def argument(value: Value) -> Any:
        if value.index not in columns:
            sizes = [size or 1 for size in value.shape[1:]]
            return tf.zeros((len(frames), *sizes), value.dtype)
        rows = frames[..., columns[value.index]]
        rows = rows if value.timing is Timing.EACH else rows[:, -1]
        return tf.constant(rows.reshape(*rows.shape[:-1], *value.frame_shape).astype(value.dtype))

    return keras.tree.map_structure(argument, read.arguments)


def _aligned(heads: list[Any], step_count: int) -> NDArray[np.float32]:
    """Puts heads side by side, each at the end of the sequence, behind NaN."""
    parts = []
    for head in heads:
        rows = head.reshape(*head.shape[:2], -1)
        part = np.full((len(rows), step_count, rows.shape[2]), np.nan, np.float32)
        if rows.shape[1]:
            part[:, step_count - rows.shape[1] :] = rows
        parts.append(part)
    return np.concatenate(parts, axis=-1)

"""The outputs of a Keras model over whole sequences: what streaming is compared with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tickcell.model.keras import archive, plan
from tickcell.model.keras.plan import Call, Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray


def full_sequence(path: str | os.PathLike[str], frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Runs a saved model over a whole sequence at once.

    Args:
      path: a `.keras` file.
      frames: `[T, F]` float32, in the sensors' own units.

    Returns:
      `[T, O]` float32: the output at each frame.

    Raises:
      ModelFileError: the file cannot be loaded.
      UnstreamableError: the model has no output at each frame.
    """
    whole = outputs(archive.load(path), frames[np.newaxis])
    return np.asarray(whole[0], np.float32)


def outputs(model: Any, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Runs a model over whole sequences, from zero states.

    A model that gives only its last output is asked for the output that it would give
    at each frame, and one made for a fixed length is asked for any length.

    Args:
      model: Sequential or functional.
      frames: `[B, T, F]` float32.

    Returns:
      `[B, T, O]` float32.
    """
    read = plan.read(model)
    # Of unknown length while it is traced, lest a layer lays its loop over time out.
    any_length = tf.TensorSpec((None, None, read.sensor_count), tf.float32)
    run = tf.function(
        model if _takes_any_length(read) else _EachStep(read), [any_length], autograph=False
    )
    return np.asarray(run(tf.constant(frames)))


def _takes_any_length(read: Plan) -> bool:
    """Says whether the model itself gives an output at each frame of any sequence."""
    return (
        read.gives_each_step
        and read.step_count is None
        and read.series_count is None
        # TimeDistributed loses the axis of time where its length is not known.
        and all(call.on_sequences for call in read.calls)
    )


class _EachStep:
    """A model's own layers over a sequence of any length, with the output at each frame."""

    def __init__(self, read: Plan) -> None:
        self._plan = read
        self._recurrent = {
            call.name: keras.layers.RNN(call.layer.cell, return_sequences=True)
            for call in read.calls
            if call.is_recurrent
        }

    def __call__(self, frames: Any) -> Any:
        values = {0: frames}
        for call in self._plan.calls:
            inputs = [values[value] for value in call.inputs]
            if call.is_recurrent:
                values[call.output] = self._recurrent[call.name](inputs[0])
            else:
                values[call.output] = _on_sequences(call, inputs)
        return values[self._plan.output]


def _on_sequences(call: Call, inputs: list[Any]) -> Any:
    """Calls a per-frame layer; one built for single frames gets all frames as one batch."""
    if call.on_sequences:
        return call.layer(inputs if len(inputs) > 1 else inputs[0])
    series_count, step_count = keras.ops.shape(inputs[0])[:2]
    flat = [keras.ops.reshape(value, (-1, value.shape[-1])) for value in inputs]
    output = call.layer(flat if len(flat) > 1 else flat[0])
    return keras.ops.reshape(output, (series_count, step_count, output.shape[-1]))

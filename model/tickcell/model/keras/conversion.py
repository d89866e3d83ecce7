"""A step as a LiteRT graph.

The way is Keras -> SavedModel -> LiteRT, since the converter's shorter ways lose the
weights of a Keras 3 model without a word: it sees none of its variables, and the graph
reads them from handles that nothing ever fills.
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import keras
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated

from tickcell.model.keras.step import Step


class ConversionError(RuntimeError):
    """A step was not converted, or its graph is not sound."""


def convert(step: Step) -> bytes:
    """Converts a step to a `.tflite` graph with the signature that `LiteRTCell` runs.

    The same step gives the same bytes, in any process of one machine. On another kind of
    machine, constants that the converter computes may differ in their last bit.

    Raises:
      ConversionError: the graph lost its weights.
    """
    names = [tensor.name for tensor in step.state_tensors]
    sizes = [step.plan.sensor_count, *(tensor.size for tensor in step.state_tensors)]

    def run(frame_and_state: Any) -> dict[str, Any]:
        frame, *states = tf.split(frame_and_state, sizes, axis=1)
        output, next_states = step(frame, dict(zip(names, states, strict=True)))
        row = tf.concat([output, *(next_states[name] for name in names)], axis=1)
        return {"output_and_state": row}

    function = tf.function(run, autograph=False)
    function.get_concrete_function(
        frame_and_state=tf.TensorSpec((None, sum(sizes)), tf.float32, name="frame_and_state")
    )
    archive = keras.export.ExportArchive()
    archive.track(step.model)
    archive.add_endpoint("step", function)
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "saved_model"
        archive.write_out(path, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(path), signature_keys=["step"])
        graph = bytes(converter.convert())
    if schema_py_generated.BuiltinOperator.VAR_HANDLE in operators(graph):
        raise ConversionError("conversion: the graph lost the model's weights.")
    return graph


def operators(graph: bytes) -> set[int]:
    """Returns the codes of the operators in a `.tflite` graph."""
    model = schema_py_generated.Model.GetRootAsModel(graph, 0)
    return {
        model.OperatorCodes(index).BuiltinCode() for index in range(model.OperatorCodesLength())
    }

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

from tickcell.model.interface import TensorSpec
from tickcell.model.keras import reason
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
    specs = step.state_tensors
    names = [tensor.name for tensor in specs]
    sizes = [step.plan.sensor_count, *(tensor.size for tensor in step.state_tensors)]

    def run(frame_and_state: Any) -> dict[str, Any]:
        frame, *states = tf.split(frame_and_state, sizes, axis=1)
        output, next_states = step(
            frame, dict(zip(names, map(_shaped, states, specs), strict=True))
        )
        rows = [_flat(next_states[spec.name], spec) for spec in specs]
        row = tf.concat([output, *rows], axis=1)
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
        try:
            archive.write_out(path, verbose=False)
            converter = tf.lite.TFLiteConverter.from_saved_model(str(path), signature_keys=["step"])
            graph = bytes(converter.convert())
        except Exception as error:  # The converter's own, and whatever TensorFlow raises.
            raise ConversionError(
                f"{step.model.name}: LiteRT cannot compute one of its operations "
                f"({reason.of(error)}); replace it."
            ) from error
    if schema_py_generated.BuiltinOperator.VAR_HANDLE in operators(graph):
        raise ConversionError("conversion: the graph lost the model's weights.")
    return graph


def _shaped(columns: Any, spec: TensorSpec) -> Any:
    return columns if len(spec.shape) == 1 else tf.reshape(columns, (-1, *spec.shape))


def _flat(state: Any, spec: TensorSpec) -> Any:
    return state if len(spec.shape) == 1 else tf.reshape(state, (-1, spec.size))


def operators(graph: bytes) -> set[int]:
    """Returns the codes of the operators in a `.tflite` graph."""
    model = schema_py_generated.Model.GetRootAsModel(graph, 0)
    return {
        model.OperatorCodes(index).BuiltinCode() for index in range(model.OperatorCodesLength())
    }

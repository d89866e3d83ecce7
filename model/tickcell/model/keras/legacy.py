"""Models in older formats: `.h5` of Keras 2 and 3, and the SavedModel directories of Keras 2.

Of either only the configuration and the weights are read.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import tempfile
from typing import Any

import h5py
import keras
import numpy as np

from tickcell.model.keras.archive import told
from tickcell.model.keras.configuration import ModelFileError, check

H5_START = b"\x89HDF\r\n\x1a\n"

# What Keras 2 writes of a layer and Keras 3 does not know, with the value that changes nothing.
_NEUTRAL: dict[str, Any] = {"time_major": False, "ragged": False, "sparse": False}

_MODELS: dict[str, Any] = {
    "Functional": keras.Model,
    "Model": keras.Model,
    "Sequential": keras.Sequential,
}


def load_h5(file: pathlib.Path) -> Any:
    """Loads an `.h5` file.

    Raises:
      ModelFileError: it has no model, or one that cannot be loaded.
    """
    with told(file), tempfile.TemporaryDirectory() as directory:
        copy = pathlib.Path(directory) / "model.h5"
        shutil.copyfile(file, copy)
        with h5py.File(copy, "r+") as opened:
            config = opened.attrs.get("model_config")
            if config is None:
                raise ModelFileError(
                    f"{file}: holds weights without a model; build the model, load them into it, "
                    "and save it with model.save('model.keras')."
                )
            fields = _readable(file, json.loads(config))
            opened.attrs["model_config"] = json.dumps(fields).encode()
            # Optimiser, loss and metrics can be code too, and a stream needs none of them.
            opened.attrs.pop("training_config", None)
        return keras.saving.load_model(copy, compile=False, safe_mode=True)


def load_saved_model(directory: pathlib.Path) -> Any:
    """Loads a Keras model from a SavedModel's directory, without its functions.

    Raises:
      ModelFileError: it is none of Keras 2, or cannot be loaded.
    """
    metadata = directory / "keras_metadata.pb"
    if not (directory / "saved_model.pb").is_file():
        raise ModelFileError(f"{directory}: is not a SavedModel; name a .keras file.")
    if not metadata.is_file():
        raise ModelFileError(
            f"{directory}: is a SavedModel of functions alone, without the model that they were "
            "made of; save the model with model.save('model.keras'), or convert one step of it "
            "and use tickcell bundle."
        )
    from tensorflow.python.keras.protobuf import saved_metadata_pb2

    with told(directory):
        nodes = saved_metadata_pb2.SavedMetadata.FromString(metadata.read_bytes()).nodes
        roots = [node.metadata for node in nodes if node.node_path == "root"]
        root = json.loads(roots[0]) if roots else {}
        if root.get("class_name") not in _MODELS:
            raise ModelFileError(
                f"{directory}: is of the class {root.get('class_name')!r}, whose calls are "
                "functions in the SavedModel, and none is run; save the model with "
                "model.save('model.keras')."
            )
        fields = _readable(directory, {key: root[key] for key in ("class_name", "config")})
        model = _MODELS[fields["class_name"]].from_config(fields["config"])
        _set_weights(model, directory)
        return model


def _readable(file: pathlib.Path, config: Any) -> Any:
    """Returns a configuration that Keras 3 can read, once it is known to hold no code."""
    check(file, config)
    return _without_neutral(file, config)


def _without_neutral(file: pathlib.Path, config: Any) -> Any:
    if isinstance(config, dict):
        if config.get("class_name") == "__tuple__":
            return tuple(_without_neutral(file, each) for each in config["items"])
        for key, value in _NEUTRAL.items():
            if config.get(key, value) not in (value, None):
                raise ModelFileError(
                    f"{file}: layer {config.get('name')!r} has {key}={config[key]!r}, which Keras "
                    f"3 does not have; build it with {key}={value!r} and save it again."
                )
        return {
            key: _without_neutral(file, value)
            for key, value in config.items()
            if key not in _NEUTRAL
        }
    if isinstance(config, list):
        return [_without_neutral(file, each) for each in config]
    return config


def _set_weights(model: Any, directory: pathlib.Path) -> None:
    """Sets a model's weights by their paths in the object graph that Keras 2 saved.

    A weight is there once: as one of the model's variables, by number, or as its layer's,
    by name.
    """
    import tensorflow as tf

    saved = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
    shapes = saved.get_variable_to_shape_map()
    index = 0
    for number, layer in enumerate(layer for layer in model.layers if layer.weights):
        values = []
        for weight in layer.weights:
            paths = (f"variables/{index}", f"layer_with_weights-{number}/{weight.name}")
            keys = [f"{path}/.ATTRIBUTES/VARIABLE_VALUE" for path in paths]
            found = [key for key in keys if tuple(shapes.get(key, ())) == tuple(weight.shape)]
            if not found:
                raise ModelFileError(
                    f"{directory}: layer {layer.name!r}: its weight {weight.name!r} "
                    f"{list(weight.shape)} is not in it; save the model as .h5 instead."
                )
            values.append(np.asarray(saved.get_tensor(found[0])))
            index += 1
        layer.set_weights(values)

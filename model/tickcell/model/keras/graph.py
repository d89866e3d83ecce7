"""A Keras model of any kind as one flat functional model, without models inside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from tickcell.model.keras import reason
from tickcell.model.keras.rules.rule import UnstreamableError, naming, takes


def flatten(model: Any) -> Any:
    """Returns a functional model of the same layers, whose calls are all of single layers.

    What is masked where shows in it as operations, as it does in any functional model.

    Raises:
      UnstreamableError: its calls cannot be followed; the message says why.
    """
    if not isinstance(model, keras.Model):
        raise UnstreamableError(f"{type(model).__name__} is not a Keras model.")
    _name_apart(model)
    flat = _traced(model, _inputs(model))
    while any(isinstance(operation, keras.Model) for operation in flat.operations):
        flat = _inlined(flat)
    # Once more, since a mask is not seen behind what the last one took out.
    return _inlined(flat)


def as_float32(model: Any) -> Any:
    """Returns the model itself, or one that computes in float32 with its weights."""
    policies = {
        layer.dtype_policy.name for layer in model._flatten_layers() if hasattr(layer, "call")
    }
    if policies <= {"float32"}:
        return model
    if quantised := sorted(name for name in policies if "int" in name or "from" in name):
        raise UnstreamableError(
            f"{model.name}: is quantised ({quantised[0]}); export the model that it was "
            "quantised from."
        )
    config = _in_float32(keras.saving.serialize_keras_object(model), sorted(policies))
    rebuilt = keras.saving.deserialize_keras_object(config)
    rebuilt.set_weights([weight.astype("float32") for weight in model.get_weights()])
    return rebuilt


def _inputs(model: Any) -> Any:
    if isinstance(model, keras.Function):
        return _again(model.input)
    if isinstance(model, keras.Sequential) and model.built and model.inputs:
        return _again(model.inputs[0])
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    if len(shapes) > 1:
        raise UnstreamableError(
            f"{model.name} ({type(model).__name__}): its call takes {sorted(shapes)}; let it take "
            "one argument, a list or dict of them."
        )
    if not shapes:
        raise UnstreamableError(
            f"{model.name} ({type(model).__name__}): was never built, so its inputs are "
            "unknown; begin it with keras.Input, or call it on frames before it is saved."
        )
    (shape,) = shapes.values()
    if isinstance(shape, dict):
        return {name: keras.Input(batch_shape=each, name=name) for name, each in shape.items()}
    if shape and isinstance(shape[0], tuple | list):
        return [keras.Input(batch_shape=each) for each in shape]
    return keras.Input(batch_shape=shape)


def _again(tensors: Any) -> Any:
    return keras.tree.map_structure(
        lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name),
        tensors,
    )


def _name_apart(model: Any) -> None:
    """Renames what has a name twice, as two models have that were trained apart.

    In one flat model, each layer and operation needs a name of its own.
    """
    taken: dict[str, Any] = {}
    for operation in _operations(model):
        name, number = operation.name, 1
        while taken.setdefault(operation.name, operation) is not operation:
            number += 1
            operation.name = f"{name}_{number}"


def _operations(model: Any) -> Iterator[Any]:
    """Yields all layers and operations in a model and in the models in it."""
    found = getattr(model, "operations", None) or model.layers
    for operation in found:
        yield operation
        if isinstance(operation, keras.Model):
            yield from _operations(operation)


def _traced(model: Any, inputs: Any) -> Any:
    try:
        return keras.Model(inputs, model.call(inputs))
    except Exception as error:  # Whatever the model's own code raises.
        raise UnstreamableError(
            f"{model.name} ({type(model).__name__}): its calls cannot be followed "
            f"({reason.of(error)}); build it from keras.Input, layers and operations of keras.ops."
        ) from error


def _inlined(flat: Any) -> Any:
    return keras.models.clone_model(
        flat,
        input_tensors=_again(flat.input),
        clone_function=lambda layer: layer,
        call_function=_inline,
    )


def _inline(operation: Any, *arguments: Any, **keywords: Any) -> Any:
    is_layer = isinstance(operation, keras.layers.Layer)
    if is_layer and takes(operation, "mask") and keywords.get("mask") is None:
        # Said, since a layer that is called with any keyword does not write its mask down.
        keywords["mask"] = getattr(arguments[0], "_keras_mask", None)
    with naming(operation):
        if isinstance(operation, keras.Model):
            return operation.call(*arguments, **keywords)
        result = operation(*arguments, **keywords)
    if type(operation).__name__ == "ConvertToTensor" and result.dtype == arguments[0].dtype:
        # A model begins by making sure that it was given tensors of its type.
        return arguments[0]
    return result


def _in_float32(config: Any, policies: list[str]) -> Any:
    """Replaces the types of another precision in a configuration."""
    if isinstance(config, dict):
        return {
            key: "float32"
            if key in ("dtype", "name") and value in policies and _is_float(value)
            else _in_float32(value, policies)
            for key, value in config.items()
        }
    if isinstance(config, list):
        return [_in_float32(each, policies) for each in config]
    return config


def _is_float(name: Any) -> bool:
    return isinstance(name, str) and name.rpartition("_")[2] in (
        "float16",
        "bfloat16",
        "float64",
    )

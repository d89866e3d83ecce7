"""Loading `.keras` files: in Keras's safe mode, and with a sentence when it cannot be done."""

from __future__ import annotations

import json
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import keras

# Imported so that their classes are registered, and no file needs `custom_objects`.
from tickcell.model.keras import models as models


class ModelFileError(ValueError):
    """A `.keras` file cannot be loaded."""


def load(path: str | os.PathLike[str], *, compiled: bool = False) -> Any:
    """Loads a model; nothing in the file is executed.

    Args:
      path: a `.keras` file.
      compiled: restores optimiser, loss and metrics too, to train on.

    Raises:
      ModelFileError: it is missing, damaged, needs code of its own, or is not Keras 3's.
    """
    file = pathlib.Path(path)
    try:
        with zipfile.ZipFile(file) as parts:
            config = json.loads(parts.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a .keras file"
        raise ModelFileError(f"{file}: cannot be loaded: {reason}.") from error
    for layer in _layers(config):
        if layer["class_name"] == "Lambda":
            name = layer.get("config", {}).get("name", "lambda")
            raise ModelFileError(
                f"{file}: layer {name!r} (Lambda) is code, and no code is run from a model's file; "
                "replace it by a layer."
            )
    try:
        return keras.saving.load_model(file, compile=compiled, safe_mode=True)
    except (TypeError, ValueError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelFileError(f"{file}: cannot be loaded: {reason}") from error


def _layers(config: Any) -> Iterator[dict[str, Any]]:
    """Goes through all serialised objects in a model's configuration."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config
        for value in config.values():
            yield from _layers(value)
    elif isinstance(config, list):
        for value in config:
            yield from _layers(value)

"""What a model's configuration would make Keras import or run, told before it is loaded."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pathlib
import sys
import traceback
import types
from collections.abc import Iterator
from typing import Any

import keras

from tickcell.model.keras import reason

_CODE = ("Lambda", "__lambda__")
_KERAS = ("builtins", "keras", "tensorflow", "tf_keras", "tickcell")


class ModelFileError(ValueError):
    """A model's file cannot be loaded."""


def check(file: pathlib.Path, config: Any) -> None:
    """Refuses what is code, or needs code that is not loaded.

    Raises:
      ModelFileError: the message names the layer, or the class.
    """
    for entry in _objects(config):
        kind = entry["class_name"]
        inner = entry.get("config")
        name = inner.get("name", kind.lower()) if isinstance(inner, dict) else kind
        if kind in _CODE:
            raise ModelFileError(
                f"{file}: layer {name!r} ({kind}) is code, and no code is run from a model's file; "
                "replace it by operations of keras.ops or by a layer."
            )
        module = entry.get("module")
        registered = entry.get("registered_name")
        package = str(module or "keras").partition(".")[0]
        is_known = package in _KERAS and (module is not None or registered in (None, kind))
        if not is_known and not _is_registered(registered) and not _is_registered(kind):
            raise ModelFileError(
                f"{file}: {name!r} is of the custom class {kind}, and a model's file may not load "
                "code; name the module that defines it with --custom."
            )


def load_custom(module: str) -> None:
    """Runs a module's code, and registers its layers and models.

    Args:
      module: its name, or the path of a `.py` file.

    Raises:
      ModelFileError: it is not found, or its code fails.
    """
    path = pathlib.Path(module)
    try:
        loaded = _run(path) if path.suffix == ".py" else importlib.import_module(module)
    except ModelFileError:
        raise
    except (Exception, SystemExit) as error:  # It is somebody's code, and can raise anything.
        raise ModelFileError(
            f"--custom {module}: cannot be loaded ({reason.of(error)}{_place(error, path)}); name "
            "a module, or a .py file, that can be imported."
        ) from error
    own = {
        name: found
        for name, found in vars(loaded).items()
        if inspect.isclass(found)
        and issubclass(found, keras.layers.Layer)
        and found.__module__ == loaded.__name__
    }
    keras.saving.get_custom_objects().update(own)


def _run(path: pathlib.Path) -> types.ModuleType:
    """Runs a file as the module of its name, which Keras then finds its classes in."""
    there = sys.modules.get(path.stem)
    if there is not None and getattr(there, "__file__", None) != str(path.resolve()):
        raise ModelFileError(
            f"--custom {path}: a module {path.stem!r} is loaded already; give the file another "
            "name."
        )
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"no module {path}")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = loaded
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return loaded


def _place(error: BaseException, path: pathlib.Path) -> str:
    """Returns at which of a file's lines an error was raised, as far as that is known."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path.resolve())]
    return f", line {lines[-1]}" if lines else ""


def _is_registered(name: Any) -> bool:
    return isinstance(name, str) and keras.saving.get_registered_object(name) is not None


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Goes through all serialised objects in a model's configuration."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config
        for value in config.values():
            yield from _objects(value)
    elif isinstance(config, list):
        for value in config:
            yield from _objects(value)

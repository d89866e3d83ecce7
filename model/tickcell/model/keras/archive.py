"""Loading models from files: no code in a file is run, and what cannot be loaded is a sentence.

A model's configuration is read, and what is code in it refused, before Keras sees it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import keras

# Imported so that their classes are registered, and no file needs `custom_objects`.
from tickcell.model.keras import models as models
from tickcell.model.keras import reason
from tickcell.model.keras.configuration import ModelFileError, check

__all__ = ["ModelFileError", "load"]

_CONFIG = "config.json"
_LITERT_START = b"TFL3"


def load(path: str | os.PathLike[str], *, compiled: bool = False) -> Any:
    """Loads a model; nothing in the file is executed.

    Args:
      path: a `.keras` file, an `.h5` file of Keras 2 or 3, or a SavedModel's directory.
      compiled: restores optimiser, loss and metrics too, to train on; of a `.keras` file.

    Raises:
      ModelFileError: it is missing, damaged, or needs code of its own; the message says
        what to do.
    """
    from tickcell.model.keras import legacy

    file = pathlib.Path(path)
    try:
        if file.is_dir():
            return legacy.load_saved_model(file)
        with file.open("rb") as opened:
            start = opened.read(8)
    except OSError as error:
        raise ModelFileError(f"{file}: cannot be loaded: {error.strerror}.") from error
    if start == legacy.H5_START:
        return legacy.load_h5(file)
    if start[4:] == _LITERT_START:
        raise ModelFileError(f"{file}: is a LiteRT graph; make a bundle of it by tickcell bundle.")
    if not zipfile.is_zipfile(file) or _CONFIG not in zipfile.ZipFile(file).namelist():
        raise ModelFileError(
            f"{file}: cannot be loaded: it is not a .keras file, an .h5 file or a SavedModel, or "
            "is incomplete; save the model with model.save('model.keras')."
        )
    with told(file):
        with zipfile.ZipFile(file) as parts:
            check(file, json.loads(parts.read(_CONFIG)))
        loaded = keras.saving.load_model(file, compile=compiled, safe_mode=True)
    if not isinstance(loaded, keras.Model):
        raise ModelFileError(
            f"{file}: holds {type(loaded).__name__}, which is not a model; save the whole model "
            "with model.save('model.keras')."
        )
    return loaded


@contextlib.contextmanager
def told(file: pathlib.Path) -> Iterator[None]:
    """Turns what Keras raises of a file into a sentence."""
    try:
        yield
    except ModelFileError:
        raise
    except Exception as error:  # A file can be wrong in any way.
        way_out = "save the model again, with model.save('model.keras')"
        if "__init__()" in str(error):
            way_out = (
                "let that class accept what its get_config returns, and **kwargs for its base class"
            )
        raise ModelFileError(
            f"{file}: cannot be loaded ({reason.of(error)}); {way_out}."
        ) from error

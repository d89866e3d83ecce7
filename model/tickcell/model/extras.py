"""Optional dependencies: what is missing is named with the command that installs it."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingExtraError(ImportError):
    """A package of one of tickcell's extras is not installed."""


def load(module: str, *, extra: str) -> ModuleType:
    """Imports a module that one of tickcell's extras brings.

    Raises:
      MissingExtraError: it is not installed; the message has the command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise missing(package, extra) from error


def missing(package: str, extra: str) -> MissingExtraError:
    """Returns the error of a package that an extra brings and that is not installed."""
    return MissingExtraError(
        f"{package} is not installed; run: pip install 'tickcell[{extra}]'", name=package
    )

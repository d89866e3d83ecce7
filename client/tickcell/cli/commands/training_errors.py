"""Trouble of training that is to be expected, as one sentence instead of a traceback."""

from __future__ import annotations

import contextlib
import json
import pathlib
import sys
from collections.abc import Iterator

import click

from tickcell import drive
from tickcell.model.agreement import AgreementError
from tickcell.model.bundle import BundleError
from tickcell.model.interface import InterfaceError, Sensor
from tickcell.model.recording import RecordingError

_OF_MODELS = (AgreementError, BundleError, InterfaceError, RecordingError)
# By their modules, which import TensorFlow: none is imported to look for an error that only a
# module which has been imported can raise.
_EXPECTED = {
    "tickcell.drive.keras.quality": "QualityError",
    "tickcell.model.keras.archive": "ModelFileError",
    "tickcell.model.keras.augmentation": "AugmentationError",
    "tickcell.model.keras.baselines": "BaselineError",
    "tickcell.model.keras.conversion": "ConversionError",
    "tickcell.model.keras.description": "DescriptionError",
    "tickcell.model.keras.plan": "UnstreamableError",
    "tickcell.model.keras.scores": "ScoreError",
    "tickcell.model.keras.training": "TrainingError",
    "tickcell.model.keras.windows": "WindowError",
}


@contextlib.contextmanager
def expected_trouble() -> Iterator[None]:
    """Runs the block, and turns our own errors into sentences."""
    try:
        yield
    except Exception as error:
        imported = (sys.modules[name] for name in _EXPECTED if name in sys.modules)
        expected = tuple(getattr(module, _EXPECTED[module.__name__]) for module in imported)
        if isinstance(error, (*_OF_MODELS, *expected)):
            raise click.ClickException(str(error)) from error
        raise


def read_sensors(path: pathlib.Path | None) -> tuple[Sensor, ...]:
    """Reads sensors from a JSON list; without a path, those of the phone on a windshield."""
    if path is None:
        return drive.SENSORS
    try:
        return tuple(Sensor(**sensor) for sensor in json.loads(path.read_text()))
    except InterfaceError as error:
        raise click.ClickException(f"{path}: {error}") from error
    except (ValueError, TypeError) as error:
        raise click.ClickException(
            f"{path}: expected a list of sensors, each with name, unit, min_reading and "
            f"max_reading, got: {error}."
        ) from error

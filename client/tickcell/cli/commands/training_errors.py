"""Trouble of training that is to be expected, as one sentence instead of a traceback."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator

import click

from tickcell import drive
from tickcell.model.bundle import BundleError
from tickcell.model.interface import InterfaceError, Sensor
from tickcell.model.recording import RecordingError


@contextlib.contextmanager
def expected_trouble() -> Iterator[None]:
    """Runs the block, and turns our own errors into sentences."""
    from tickcell.drive.keras.quality import QualityError
    from tickcell.model.keras.agreement import AgreementError
    from tickcell.model.keras.archive import ModelFileError
    from tickcell.model.keras.augmentation import AugmentationError
    from tickcell.model.keras.baselines import BaselineError
    from tickcell.model.keras.conversion import ConversionError
    from tickcell.model.keras.description import DescriptionError
    from tickcell.model.keras.plan import UnstreamableError
    from tickcell.model.keras.scores import ScoreError
    from tickcell.model.keras.training import TrainingError
    from tickcell.model.keras.windows import WindowError

    try:
        yield
    except (
        AgreementError,
        AugmentationError,
        BaselineError,
        BundleError,
        ConversionError,
        DescriptionError,
        InterfaceError,
        ModelFileError,
        QualityError,
        RecordingError,
        ScoreError,
        TrainingError,
        UnstreamableError,
        WindowError,
    ) as error:
        raise click.ClickException(str(error)) from error


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

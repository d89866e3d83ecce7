"""What the flags of `tickcell train` ask for: where the data comes from, and how to train."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from tickcell.cli.commands import given_options, layouts

if TYPE_CHECKING:
    from collections.abc import Collection

    from tickcell.drive.keras.datasets import Drives
    from tickcell.model.keras.datasets import Dataset, Source
    from tickcell.model.keras.recipe import Recipe

_WINDOWING = ("step_count", "stride", "burn_in", "batch_size", "batch_count", "balanced")
_AUGMENTATION = ("turn", "gain", "gyro_dropout", "noise")
_RECIPE = (
    "epochs",
    "recurrent_units_1",
    "recurrent_units_2",
    "projection_scale",
    "learning_rate",
    "halving_epochs",
    "dropout",
    "averaging",
    "patience",
    "checkpoint_epochs",
    "members",
    "seed",
)
_SOURCE = ("validation_share", "layout", "labels", "on_dropout")
_DRIVES = ("drive_count", "drive_s")
# What only files have.
_FILES = ("validation", "validation_share", "sensors", "rate_hz", *layouts.NAMES)
_RESUMED = ("resume", "epochs", "logs", "no_logs")
_NOT_LEFT_OUT = ("resume", "validation", "validation_share", "logs")


def given() -> dict[str, str]:
    """Returns the flags that were given to the running command, by their parameters."""
    return given_options.names(click.get_current_context())


def refuse_with_resume() -> None:
    """Refuses flags that would make the resumed run another one."""
    if others := [flag for name, flag in given().items() if name not in _RESUMED]:
        raise click.UsageError(
            "a resumed run keeps its settings: --resume takes --epochs, --logs and --no-logs "
            f"only, not {', '.join(others)}."
        )


def refuse_with_leave_one_out() -> None:
    """Refuses flags that say nothing where each recording is left out in turn."""
    if others := [flag for name, flag in given().items() if name in _NOT_LEFT_OUT]:
        raise click.UsageError(
            f"--leave-one-out takes recordings as --data, and no {', '.join(others)}."
        )


def source(options: dict[str, Any]) -> Source | Drives:
    """Returns where the data comes from."""
    from tickcell.drive.keras.datasets import DRIVE, Drives
    from tickcell.model.keras.datasets import NOISE, Source

    data = options["data"]
    if not data:
        raise click.UsageError("name the data with --data: 'noise', 'drive', or recordings.")
    if len(data) > 1 and {NOISE, DRIVE} & set(data):
        raise click.UsageError("'noise' and 'drive' do not mix with other data.")
    if data != (DRIVE,):
        _refuse(_DRIVES, "simulated drives")
    if data in ((DRIVE,), (NOISE,)):
        _refuse(_FILES, "recordings in files")
    if data == (DRIVE,):
        return Drives(**{key: options[key] for key in _DRIVES if options[key] is not None})
    asked = {key: options[key] for key in _SOURCE if options[key] is not None}
    found = Source(data=data, validation=options["validation"], **asked)
    if found.kind != "recordings":
        return found
    if options["rate_hz"] is None and options["sensors"] is not None:
        # Of other sensors no rate is known to do: they keep theirs.
        return dataclasses.replace(found, rate_hz=1.0 if found.is_in_cycles else None)
    return dataclasses.replace(found, rate_hz=options["rate_hz"] or 10.0)


def recipe(options: dict[str, Any], dataset: Dataset) -> Recipe:
    """Returns how to train: what the flags say, and else what is usual for the data."""
    usual = _usual_recipe(options, dataset)
    if options["units"]:
        first, second = options["units"]
        options = {**options, "recurrent_units_1": first, "recurrent_units_2": second}
    asked = {key: value for key, value in options.items() if value is not None}
    augmentation = dataclasses.replace(
        usual.augmentation, **{key: asked[key] for key in _AUGMENTATION if key in asked}
    )
    if lacking := augmentation.lacking([sensor.name for sensor in dataset.sensors]):
        raise click.UsageError(
            f"the requested augmentations need the readings {', '.join(lacking)}; omit "
            "--turn, --gain and --gyro-dropout."
        )
    return dataclasses.replace(
        usual,
        windowing=dataclasses.replace(
            usual.windowing,
            **{key: asked[key] for key in (*_WINDOWING, "each_step") if key in asked},
        ),
        augmentation=augmentation,
        **{key: asked[key] for key in _RECIPE if key in asked},
    )


def _usual_recipe(options: dict[str, Any], dataset: Dataset) -> Recipe:
    from tickcell.drive.keras.datasets import DRIVE
    from tickcell.drive.keras.recipe import RECIPE
    from tickcell.model.keras import recipe as recipes
    from tickcell.model.keras.datasets import NOISE

    kinds = {(NOISE,): recipes.NOISE, (DRIVE,): RECIPE}
    if options["data"] in kinds:
        return kinds[options["data"]]
    if dataset.one_label:
        return recipes.of_sequences(options["step_count"] or dataset.step_count)
    changes = recipes.RECORDINGS.augmentation
    if lacking := changes.lacking([sensor.name for sensor in dataset.sensors]):
        click.echo(
            "tickcell: windows are not augmented (--turn, --gain, --gyro-dropout, --noise): the "
            f"augmentations for a phone need {', '.join(lacking)}",
            err=True,
        )
        return recipes.OTHER_SENSORS
    return recipes.RECORDINGS


def _refuse(names: Collection[str], of: str) -> None:
    """Refuses flags for other data."""
    if others := [flag for name, flag in given().items() if name in names]:
        raise click.UsageError(f"{', '.join(others)}: needs {of}, and --data names none.")

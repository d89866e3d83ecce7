"""`tickcell train`."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tickcell.cli.commands import layouts
from tickcell.cli.commands.training_errors import expected_trouble, read_sensors
from tickcell.model.recording import Layout
from tickcell.model.recording.labels import Labels

if TYPE_CHECKING:
    from tickcell.drive.keras.datasets import Drives
    from tickcell.model.interface import Sensor
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

_Path = click.Path(path_type=pathlib.Path)
_Directory = click.Path(path_type=pathlib.Path, file_okay=False)


@click.command(epilog="Flags that are left out have a default for each kind of data.")
@click.option("--data", multiple=True, help="'noise', 'drive', or a file; repeatable.")
@click.option("--validation", multiple=True, help="A file to validate on; repeatable.")
@click.option("--validation-share", type=click.FloatRange(0, 0.9), help="Else, each file's end.")
@click.option("--sensors", type=_Path, help="JSON list of sensors; the phone's ten without it.")
@click.option(
    "--rate-hz",
    type=float,
    help="Recordings are brought to this rate; a file without times has it.  [a phone's: 10]",
)
@click.option("--drive-count", type=click.IntRange(1), help="Simulated drives to learn from.")
@click.option("--drive-s", type=click.FloatRange(1), help="Seconds of each of them.")
@click.option("--each-step/--last-step", default=None, help="An output per frame, or at the end.")
@click.option("--steps", "step_count", type=int, help="Frames in a window.")
@click.option("--stride", type=int, help="Frames between the starts of two windows.")
@click.option("--burn-in", type=int, help="First frames of a window that count for nothing.")
@click.option("--batch", "batch_size", type=int, help="Windows in a batch.")
@click.option("--batches", "batch_count", type=int, help="Batches in an epoch; all without it.")
@click.option("--balanced/--as-it-is", default=None, help="Weighs the rarer label up.")
@click.option("--turn/--no-turn", default=None, help="Turns each window's horizontal axes.")
@click.option("--gain", type=float, help="Scales each window by up to this factor.")
@click.option("--gyro-dropout", type=float, help="Share of windows without a gyroscope.")
@click.option("--noise", type=float, help="Noise on readings, in deviations of each.")
@click.option("--units", "units", type=int, nargs=2, help="Widths of the two layers.  [24 48]")
@click.option("--projection-scale", type=float, help="Starts smaller to remember longer.")
@click.option("--learning-rate", type=float, help="Of Adam, at the beginning.")
@click.option("--halving-epochs", type=float, help="Epochs in which the learning rate halves.")
@click.option("--dropout", type=float, help="Share of the recurrent output hidden.")
@click.option("--averaging", type=float, help="Momentum of the weights' running average; 0: none.")
@click.option("--patience", type=click.IntRange(1), help="Epochs without gain before stopping.")
@click.option("--checkpoint-epochs", type=click.IntRange(1), help="Between kept checkpoints.")
@click.option(
    "--members", type=click.IntRange(1), help="Networks whose outputs are averaged.  [a phone's: 5]"
)
@click.option("--seed", type=click.IntRange(0), help="Of all that is random.  [0]")
@click.option("--epochs", type=click.IntRange(1), help="Epochs in all.")
@click.option("--out", type=_Directory, help="Directory for model, history and curves.")
@click.option("--resume", type=_Directory, help="Goes on with the run in this directory.")
@click.option("--leave-one-out", is_flag=True, help="Leaves each recording out in turn.")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="Of these.")
@click.option("--name", help="Names the model.  [the data's kind]")
@click.option("--logs", type=_Directory, default="logs", show_default=True, help="TensorBoard's.")
@click.option("--no-logs", is_flag=True, help="Writes no logs for TensorBoard.")
@layouts.layout()
@layouts.labels()
def train(**options: Any) -> None:
    r"""Trains the recurrent network of two layers.

    Writes model.keras, description.json, history.csv and curves.png to a directory;
    `tickcell export` makes a bundle of it. Sequences with one label each are trained on
    whole (--last-step, --steps their length) and as they are, if no flag says otherwise.
    Labels are 0 and 1, classes (words, or whole numbers) or numbers; of a frame with an
    empty label nothing is learnt.

    \b
    tickcell train --data noise --out run
    tickcell train --data drive --out run
    tickcell train --data trip17.csv --data trip20.csv --out run
    tickcell train --data gait.csv --sensors imu.json --label activity --out run
    tickcell train --data engines.txt --sensors engine.json --recording-column unit \
        --label-countdown 125 --time-unit cycle --validation-share 0.2 --out run
    tickcell train --data sequences.npz --validation-share 0.2 --out run
    tickcell train --resume run --epochs 50
    tickcell train --leave-one-out --data trip17.csv --data trip20.csv --out left
    tensorboard --logdir logs
    """
    with expected_trouble():
        if options["leave_one_out"]:
            _leave_one_out(options)
        else:
            _train(options)


def _train(options: dict[str, Any]) -> None:
    from tickcell.model.keras import provenance, training
    from tickcell.model.keras.description import FILE_NAME, Description
    from tickcell.model.keras.recipe import Recipe

    directory = options["resume"] or options["out"]
    if options["resume"]:
        _refuse_with_resume(options)
        earlier = Description.read(directory / FILE_NAME)
        source = _source_of(earlier.training["source"])
        recipe = Recipe.from_dict(earlier.training["recipe"])
        recipe = dataclasses.replace(recipe, epochs=options["epochs"] or recipe.epochs)
        sensors, name = earlier.sensors, earlier.name
    else:
        source, recipe = _source(options), None
        sensors, name = read_sensors(options["sensors"]), options["name"] or source.kind
        _claim(directory)
    click.echo(f"reading {', '.join(source.data)}", err=True)
    dataset = _load(source, sensors)
    _tell(dataset)
    click.echo(
        f"{len(dataset.training)} recordings to train on and {len(dataset.validation)} to "
        f"validate on, at {dataset.rate_hz:g} {_per(source)}",
        err=True,
    )
    recipe = recipe or _recipe(options, dataset)
    description = provenance.describe(name, source, recipe, dataset)
    directory.mkdir(parents=True, exist_ok=True)
    description.write(directory / FILE_NAME)
    history = training.train(
        recipe,
        dataset.training,
        dataset.validation,
        directory,
        dataset.labelling,
        resume=options["resume"] is not None,
        logs=_logs(options, name),
        verbose=1 if sys.stderr.isatty() else 2,
    )
    last = history.rows[-1]
    measures = ", ".join(f"{key} {value:.4f}" for key, value in last.items() if key != "epoch")
    click.echo(f"{directory / 'model.keras'}: epoch {len(history.rows)}: {measures}")


def _leave_one_out(options: dict[str, Any]) -> None:
    from tickcell.model.keras import leave_one_out as leaving
    from tickcell.model.keras import plots, provenance, scored

    directory = options["out"]
    _claim(directory)
    source = _source(options)
    if source.kind != "recordings" or options["validation"]:
        raise click.UsageError("--leave-one-out takes recordings as --data, and no --validation.")
    dataset = _load(source, read_sensors(options["sensors"]))
    _tell(dataset)
    if any(recording.one_label for recording in dataset.training):
        raise click.UsageError("--leave-one-out takes recordings with a label per frame.")
    recipe = _recipe(options, dataset)
    description = provenance.describe(options["name"] or source.kind, source, recipe, dataset)
    results = leaving.leave_one_out(
        dataset.training,
        recipe,
        range(recipe.seed, recipe.seed + options["seeds"]),
        description,
        directory,
        dataset.labelling,
        lambda line: click.echo(line, err=True),
    )
    for left, _ in results:
        click.echo(left.to_table())
    report = directory / "leave_one_out.json"
    report.write_text(json.dumps([left.to_dict() for left, _ in results], indent=2) + "\n")
    streamed = [outputs for _, outputs in results]
    chosen = scored.learnt(description.outputs[0], dataset.labelling)
    plots.outputs(streamed, chosen, directory / "leave_one_out.png")
    click.echo(f"{report}, {report.with_suffix('.png')}")


def _tell(dataset: Dataset) -> None:
    """Says once of each file what was assumed of it, and what was ignored."""
    notes = (
        f"tickcell: {recording.name}: {note}"
        for recording in (*dataset.training, *dataset.validation)
        for note in recording.notes
    )
    for note in dict.fromkeys(notes):
        click.echo(note, err=True)
    click.echo(f"tickcell: labels: {dataset.labelling}", err=True)
    if dataset.unlabelled_count:
        click.echo(
            f"tickcell: without a label, not learnt: {dataset.unlabelled_count} frames", err=True
        )


def _refuse_with_resume(options: dict[str, Any]) -> None:
    """Refuses flags that would make the resumed run another one."""
    allowed = {"resume", "epochs", "logs", "no_logs", "seeds"}
    nothing = (None, (), False, Layout(), Labels())
    given = [key for key, value in options.items() if value not in nothing]
    if others := sorted(set(given) - allowed):
        raise click.UsageError(
            f"a run goes on as it began: --resume takes --epochs only, not {', '.join(others)}."
        )


def _claim(directory: pathlib.Path | None) -> None:
    if directory is None:
        raise click.UsageError("name a new directory with --out, or one to go on with: --resume.")
    from tickcell.model.keras import training

    # What failed before its first epoch was done is none.
    if training.is_run(directory):
        raise click.ClickException(
            f"{directory}: holds a run; go on with it (--resume {directory}) or name a new one."
        )


def _source(options: dict[str, Any]) -> Source | Drives:
    from tickcell.drive.keras.datasets import DRIVE, Drives
    from tickcell.model.keras.datasets import NOISE, Source

    data = options["data"]
    if not data:
        raise click.UsageError("name the data with --data: 'noise', 'drive', or recordings.")
    if len(data) > 1 and {NOISE, DRIVE} & set(data):
        raise click.UsageError("'noise' and 'drive' do not mix with other data.")
    if data == (DRIVE,):
        return Drives(**{key: options[key] for key in _DRIVES if options[key] is not None})
    given = {key: options[key] for key in _SOURCE if options[key] is not None}
    source = Source(data=data, validation=options["validation"], **given)
    if source.kind != "recordings":
        return source
    if options["rate_hz"] is None and options["sensors"] is not None:
        # Of other sensors no rate is known to do: they keep theirs.
        return dataclasses.replace(source, rate_hz=1.0 if _is_in_cycles(source) else None)
    return dataclasses.replace(source, rate_hz=options["rate_hz"] or 10.0)


def _is_in_cycles(source: Source | Drives) -> bool:
    return getattr(source, "layout", Layout()).time_unit == "cycle"


def _per(source: Source | Drives) -> str:
    return "frame a cycle, taken for 1 Hz" if _is_in_cycles(source) else "Hz"


def _source_of(fields: dict[str, Any]) -> Source | Drives:
    """Makes a source of what its `to_dict` gave to the description of a run."""
    from tickcell.drive.keras.datasets import DRIVE, Drives
    from tickcell.model.keras.datasets import Source

    return (Drives if fields["data"] == [DRIVE] else Source).from_dict(fields)


def _load(source: Source | Drives, sensors: Sequence[Sensor]) -> Dataset:
    from tickcell.drive.keras.datasets import Drives
    from tickcell.model.keras import datasets

    return source.load() if isinstance(source, Drives) else datasets.load(source, sensors)


def _recipe(options: dict[str, Any], dataset: Dataset) -> Recipe:
    recipe = _default_recipe(options, dataset)
    if options["units"]:
        first, second = options["units"]
        options = {**options, "recurrent_units_1": first, "recurrent_units_2": second}
    given = {key: value for key, value in options.items() if value is not None}
    augmentation = dataclasses.replace(
        recipe.augmentation, **{key: given[key] for key in _AUGMENTATION if key in given}
    )
    if lacking := augmentation.lacking([sensor.name for sensor in dataset.sensors]):
        raise click.UsageError(
            f"the changes that were asked for need the readings {', '.join(lacking)}; leave out "
            "--turn, --gain and --gyro-dropout."
        )
    return dataclasses.replace(
        recipe,
        windowing=dataclasses.replace(
            recipe.windowing,
            **{key: given[key] for key in (*_WINDOWING, "each_step") if key in given},
        ),
        augmentation=augmentation,
        **{key: given[key] for key in _RECIPE if key in given},
    )


def _default_recipe(options: dict[str, Any], dataset: Dataset) -> Recipe:
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
            "tickcell: no change is made to windows (--turn, --gain, --gyro-dropout, --noise): "
            f"those for a phone need {', '.join(lacking)}",
            err=True,
        )
        return recipes.OTHER_SENSORS
    return recipes.RECORDINGS


def _logs(options: dict[str, Any], experiment: str) -> pathlib.Path | None:
    if options["no_logs"]:
        return None
    now = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    logs: pathlib.Path = options["logs"]
    return logs / experiment / now

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

from tickcell.cli.commands import layouts, training_flags
from tickcell.cli.commands.training_errors import expected_trouble, read_sensors

if TYPE_CHECKING:
    from tickcell.drive.keras.datasets import Drives
    from tickcell.model.interface import Sensor
    from tickcell.model.keras.datasets import Dataset, Source

_Path = click.Path(path_type=pathlib.Path)
_Directory = click.Path(path_type=pathlib.Path, file_okay=False)


@click.command(epilog="Other defaults depend on the kind of data.")
@click.option("--data", multiple=True, help="'noise', 'drive', or a file; may be repeated.")
@click.option("--validation", multiple=True, help="A file to validate on; may be repeated.")
@click.option(
    "--validation-share",
    type=click.FloatRange(0, 0.9),
    help="The share at the end of each file to validate on, without --validation.",
)
@click.option(
    "--sensors",
    type=_Path,
    help="A JSON file with the list of sensors.  [default: the ten of a phone]",
)
@click.option(
    "--rate-hz",
    type=float,
    help="Resample recordings to this rate; files without times are assumed to have it.  "
    "[default for a phone: 10]",
)
@click.option("--drive-count", type=click.IntRange(1), help="The number of simulated drives.")
@click.option("--drive-s", type=click.FloatRange(1), help="The length of a simulated drive.")
@click.option("--each-step/--last-step", default=None, help="An output per frame, or at the end.")
@click.option("--steps", "step_count", type=int, help="The number of frames in a window.")
@click.option("--stride", type=int, help="The number of frames between the starts of two windows.")
@click.option("--burn-in", type=int, help="The first frames of a window, which the loss ignores.")
@click.option("--batch", "batch_size", type=int, help="The number of windows in a batch.")
@click.option(
    "--batches", "batch_count", type=int, help="The number of batches in an epoch.  [default: all]"
)
@click.option("--balanced/--as-it-is", default=None, help="Give rarer labels more weight.")
@click.option("--turn/--no-turn", default=None, help="Rotate each window's horizontal axes.")
@click.option("--gain", type=float, help="Scale each window by up to this factor.")
@click.option("--gyro-dropout", type=float, help="The share of windows without a gyroscope.")
@click.option("--noise", type=float, help="Noise on readings, in each sensor's deviations.")
@click.option(
    "--units", "units", type=int, nargs=2, help="The widths of the two layers.  [default: 24 48]"
)
@click.option(
    "--projection-scale",
    type=float,
    help="The initial scale of projections; smaller remembers longer.",
)
@click.option("--learning-rate", type=float, help="The initial learning rate, of Adam.")
@click.option(
    "--halving-epochs", type=float, help="The number of epochs in which the learning rate halves."
)
@click.option("--dropout", type=float, help="The dropout rate of the recurrent output.")
@click.option(
    "--averaging", type=float, help="The momentum of the weights' running average; 0 for none."
)
@click.option(
    "--patience", type=click.IntRange(1), help="Stop after this many epochs without improvement."
)
@click.option(
    "--checkpoint-epochs",
    type=click.IntRange(1),
    help="The number of epochs between kept checkpoints.",
)
@click.option(
    "--members",
    type=click.IntRange(1),
    help="The number of networks whose outputs are averaged.  [default for a phone: 15]",
)
@click.option("--seed", type=click.IntRange(0), help="The seed of everything random.  [default: 0]")
@click.option("--epochs", type=click.IntRange(1), help="The number of epochs in all.")
@click.option("--out", type=_Directory, help="The directory for model, history and curves.")
@click.option("--resume", type=_Directory, help="Continue the run in this directory.")
@click.option("--leave-one-out", is_flag=True, help="Leave each recording out in turn.")
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="The number of seeds for --leave-one-out.",
)
@click.option("--name", help="The model's name.  [default: the kind of data]")
@click.option(
    "--logs",
    type=_Directory,
    default="logs",
    show_default=True,
    help="The directory for TensorBoard's logs.",
)
@click.option("--no-logs", is_flag=True, help="Write no logs for TensorBoard.")
@layouts.layout()
@layouts.labels()
def train(**options: Any) -> None:
    r"""Trains a recurrent network of two layers.

    Writes model.keras, description.json, history.csv and curves.png to a directory;
    `tickcell export` turns the model into a bundle. By default, sequences with one label
    each are trained on whole and unchanged (--last-step, and --steps their length). Labels
    are 0 and 1, classes (words, or whole numbers) or numbers; frames with an empty label
    are ignored.

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

    if "seeds" in training_flags.given():
        raise click.UsageError("--seeds needs --leave-one-out; --seed sets the seed of one run.")
    directory = options["resume"] or options["out"]
    if options["resume"]:
        training_flags.refuse_with_resume()
        earlier = Description.read(directory / FILE_NAME)
        source = _source_of(earlier.training["source"])
        recipe = Recipe.from_dict(earlier.training["recipe"])
        recipe = dataclasses.replace(recipe, epochs=options["epochs"] or recipe.epochs)
        sensors, name = earlier.sensors, earlier.name
    else:
        source, recipe = training_flags.source(options), None
        sensors, name = read_sensors(options["sensors"]), options["name"] or source.kind
        _claim(directory)
    click.echo(f"reading {', '.join(source.data)}", err=True)
    dataset = _load(source, sensors)
    _tell(dataset)
    per = "frame per cycle, taken for 1 Hz" if source.is_in_cycles else "Hz"
    click.echo(
        f"{len(dataset.training)} recordings to train on and {len(dataset.validation)} to "
        f"validate on, at {dataset.rate_hz:g} {per}",
        err=True,
    )
    recipe = recipe or training_flags.recipe(options, dataset)
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

    training_flags.refuse_with_leave_one_out()
    directory = options["out"]
    _claim(directory)
    source = training_flags.source(options)
    if source.kind != "recordings":
        raise click.UsageError(f"--leave-one-out takes recordings as --data, not {source.kind}.")
    dataset = _load(source, read_sensors(options["sensors"]))
    _tell(dataset)
    if any(recording.one_label for recording in dataset.training):
        raise click.UsageError("--leave-one-out takes recordings with a label per frame.")
    recipe = training_flags.recipe(options, dataset)
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
    """Prints once for each file what was assumed and what was ignored."""
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
            f"tickcell: ignored, without a label: {dataset.unlabelled_count} frames", err=True
        )


def _claim(directory: pathlib.Path | None) -> None:
    if directory is None:
        raise click.UsageError("name a new directory with --out, or one to continue: --resume.")
    from tickcell.model.keras import training

    # A run that failed before its first epoch ended does not count.
    if training.is_run(directory):
        raise click.ClickException(
            f"{directory}: holds a run; continue it (--resume {directory}) or name a new directory."
        )


def _source_of(fields: dict[str, Any]) -> Source | Drives:
    """Makes a source from what its `to_dict` wrote to the description of a run."""
    from tickcell.drive.keras.datasets import DRIVE, Drives
    from tickcell.model.keras.datasets import Source

    return (Drives if fields["data"] == [DRIVE] else Source).from_dict(fields)


def _load(source: Source | Drives, sensors: Sequence[Sensor]) -> Dataset:
    from tickcell.drive.keras.datasets import Drives
    from tickcell.model.keras import datasets

    return source.load() if isinstance(source, Drives) else datasets.load(source, sensors)


def _logs(options: dict[str, Any], experiment: str) -> pathlib.Path | None:
    if options["no_logs"]:
        return None
    now = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    logs: pathlib.Path = options["logs"]
    return logs / experiment / now

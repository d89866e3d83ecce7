"""`tickcell export`."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from tickcell.cli.commands import layouts
from tickcell.cli.commands.training_errors import expected_trouble, read_sensors
from tickcell.model.bundle import FILES, SUMS
from tickcell.model.recording import Layout, RecordingError, open_recording, read_all
from tickcell.model.recording.mending import Mending

if TYPE_CHECKING:
    from tickcell.model.bundle import Bundle
    from tickcell.model.keras.description import Description
    from tickcell.model.recording import Recording

_File = click.Path(path_type=pathlib.Path, exists=True, dir_okay=False)
_SEED = 0
_TYPICAL_STEP_COUNT = 1000
_DESCRIBED = ("name", "version", "rate_hz", "output_meaning", "output_name", "threshold")

# All that a bundle's directory holds; nothing else is ever removed.
_FILES = {*FILES, SUMS}


@click.command()
@click.argument("model", type=_File)
@click.option("--out", required=True, type=click.Path(path_type=pathlib.Path, file_okay=False))
@click.option("--description", type=_File, help="JSON; else description.json beside the model.")
@click.option(
    "--golden", help="A recording for the golden, or 'drive'; frames are drawn without it."
)
@click.option("--sensors", type=_File, help="JSON list of sensors.")
@click.option("--name", help="Names the model.")
@click.option("--version", help="Tells versions of one name apart.")
@click.option("--rate-hz", type=float, help="Rate of frames that the model was trained at.")
@click.option("--meaning", "output_meaning", help="What the output means, as a sentence.")
@click.option("--output-name", help="Names the output.")
@click.option("--threshold", type=float, help="From which output on that is taken to hold.")
@click.option("--gate", type=click.Choice(["drive"]), help="A mark that it must reach; see below.")
@click.option("--replace", is_flag=True, help="Replaces the bundle that is there.")
@layouts.layout(on_gap=("raise", "keep"))
def export(model: pathlib.Path, out: pathlib.Path, replace: bool, **options: Any) -> None:
    r"""Turns a Keras model with recurrent layers into a bundle, and checks it.

    MODEL is a .keras file: Sequential or functional, of recurrent layers and of layers
    that treat each frame on its own. What cannot be streamed is refused. The gate 'drive'
    is for a model trained on simulated drives: it must tell aggressive driving on drives
    that it has not seen, and better than a network that sees one frame at a time.

    \b
    tickcell export run/model.keras --out bundle
    tickcell export lstm.keras --out bundle --rate-hz 100 --golden walk.csv --sensors imu.json
    tickcell serve --bundle bundle
    """
    with expected_trouble():
        _export(model, out, replace, options)


def _export(model: pathlib.Path, out: pathlib.Path, replace: bool, options: dict[str, Any]) -> None:
    from tickcell.drive.keras import quality
    from tickcell.model.keras import archive, typical
    from tickcell.model.keras import export as exporting

    _check_place(out, replace)
    loaded = archive.load(model)
    description = _describe(model, loaded, options)
    golden = _golden(options["golden"], description, options["layout"])
    labels, drawn = (None if golden is None else golden.labels), None
    if golden is None:
        generator = np.random.default_rng(_SEED)
        drawn = typical.draw(loaded, description.sensors, generator, _TYPICAL_STEP_COUNT)
    shown = drawn if golden is None else golden
    bundle = exporting.export(loaded, description, None if shown is None else shown.frames, labels)
    if golden is None:
        origin = "a normal distribution, which may be far from any sensor's"
        click.echo(
            "tickcell: without --golden, warm-up and agreement are measured on frames drawn from "
            f"{origin if drawn is None else drawn.origin}",
            err=True,
        )
    if options["gate"] == "drive":
        click.echo("streaming held-out drives, and training the single-frame network", err=True)
        bundle = quality.judged(bundle)
    bundle.write(out, model.read_bytes(), replace=replace)
    _say(bundle, out)


def _describe(path: pathlib.Path, model: Any, options: dict[str, Any]) -> Description:
    """Joins the description beside the model, if there is one, with what the flags say."""
    from tickcell.model.keras import description as descriptions
    from tickcell.model.keras import plan

    beside = options["description"] or path.parent / descriptions.FILE_NAME
    given = {key: options[key] for key in _DESCRIBED if options[key] is not None}
    if options["sensors"]:
        given["sensors"] = read_sensors(options["sensors"])
    if beside.is_file():
        return dataclasses.replace(descriptions.Description.read(beside), **given)
    if "rate_hz" not in given:
        raise click.UsageError(
            f"{path}: has no {descriptions.FILE_NAME} beside it; name the rate with --rate-hz."
        )
    defaults = {
        "name": path.stem,
        "version": "1",
        "output_meaning": f"The output of {path.name}.",
        "sensors": descriptions.unnamed_sensors(plan.read(model).sensor_count),
    }
    return descriptions.Description(**{**defaults, **given})


def _golden(golden: str | None, description: Description, layout: Layout) -> Recording | None:
    from tickcell.drive.keras import datasets as drives

    if golden is None:
        return None
    if golden == drives.DRIVE:
        return drives.golden()
    fields = description.training.get("source", {}).get("layout")
    if fields is not None and layout == Layout():
        layout = Layout.from_dict(fields)  # As it was for the recordings it was trained on.
    label = layout.label or description.training.get("label")
    sensors, rate_hz = description.sensors, description.rate_hz
    bare = dataclasses.replace(layout, label=None)
    if label not in open_recording(golden, sensors, bare, rate_hz=rate_hz).ignored:
        label = None  # Outputs are compared with those of Keras; labels may stand beside them.
    layout = dataclasses.replace(layout, label=label)
    source = description.training.get("source", {})
    on_dropout = source.get("on_dropout")
    found = read_all(
        golden,
        sensors,
        layout,
        rate_hz=rate_hz,
        to_hz=rate_hz,
        labelling=description.labelling(source.get("labels", {}).get("null_class")),
        mending=None if on_dropout is None else Mending(on_dropout),
    )
    for note in found[0].notes:
        click.echo(f"tickcell: {found[0].name}: {note}", err=True)
    if len(found) > 1:
        raise RecordingError(f"{golden}: is {len(found)} recordings, expected one.")
    return found[0]


def _check_place(directory: pathlib.Path, replace: bool) -> None:
    """Refuses a place that has something in it, unless a bundle is to be replaced."""
    present = {path.name for path in directory.iterdir()} if directory.exists() else set()
    if present and not replace:
        raise click.ClickException(
            f"{directory}: is not empty; name a new directory, or replace the bundle (--replace)."
        )
    if strangers := sorted(present - _FILES):
        raise click.ClickException(
            f"{directory}: is not replaced, because it holds more than a bundle: {strangers}."
        )


def _say(bundle: Bundle, out: pathlib.Path) -> None:
    card = bundle.card
    agreement = card.metrics["keras_agreement"]
    click.echo(f"{out}: {card.name} version {card.version}, fingerprint {bundle.fingerprint[:12]}")
    click.echo(
        f"max |delta| to Keras over the whole sequence: {card.keras_max_delta:.2g} "
        f"over {card.keras_max_delta_steps} steps"
    )
    if agreement["amplifies"]:
        growth = agreement["random_frames"]["growth"]
        steps = ", ".join(f"{delta:.2g} after {step}" for step, delta in growth.items())
        click.echo(
            "This recurrence amplifies its last bit, so it cannot agree with another "
            f"implementation for ever: |delta| on random frames is {steps} steps."
        )

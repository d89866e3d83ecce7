"""`tickcell export`."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from tickcell.cli.commands import layouts
from tickcell.cli.commands import outputs as outputs_of
from tickcell.cli.commands.places import check_place
from tickcell.cli.commands.training_errors import expected_trouble, read_sensors
from tickcell.model import ids
from tickcell.model.outputs import Described
from tickcell.model.recording import Layout, RecordingError, open_recording, read_all
from tickcell.model.recording.mending import Mending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.model.bundle import Bundle
    from tickcell.model.keras.description import Description
    from tickcell.model.recording import Recording

_File = click.Path(path_type=pathlib.Path, exists=True, dir_okay=False)
_Model = click.Path(path_type=pathlib.Path, exists=True)
_SEED = 0
_TYPICAL_STEP_COUNT = 1000
_DESCRIBED = ("name", "version", "rate_hz")


@click.command()
@click.argument("model", type=_Model)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=pathlib.Path, file_okay=False),
    help="The directory for the bundle.",
)
@click.option(
    "--description",
    type=_File,
    help="A JSON file that describes the model.  [default: description.json beside MODEL]",
)
@click.option(
    "--golden", help="A recording for the golden, or 'drive'.  [default: frames are drawn]"
)
@click.option("--sensors", type=_File, help="A JSON file with the list of sensors.")
@click.option("--name", help="The model's name.")
@click.option("--version", help="The model's version.")
@click.option("--rate-hz", type=float, help="The frame rate of the training data.")
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="NAME",
    help="The name of an output, or of one of their numbers; repeat in the model's order.",
)
@outputs_of.described
@click.option(
    "--custom",
    multiple=True,
    metavar="MODULE",
    help="A module or .py file with layers or cells of your own; its code is run.",
)
@click.option("--gate", type=click.Choice(["drive"]), help="A test that it must pass: see above.")
@click.option("--replace", is_flag=True, help="Replace an existing bundle.")
@layouts.layout(on_gap=("raise", "keep"))
def export(model: pathlib.Path, out: pathlib.Path, replace: bool, **options: Any) -> None:
    r"""Turns a recurrent Keras model into a bundle, and checks it.

    MODEL is a .keras file, an .h5 file of Keras 2 or 3, or a SavedModel of Keras 2. No
    code in it is run; custom layers come from --custom. A model that cannot be streamed is
    refused, with the layer, the reason and the way out. The kind of an output follows from
    its last activation (sigmoid: a probability, softmax: classes, otherwise a number),
    unless --kind or --class says otherwise. The gate 'drive' is for a model trained on
    simulated drives: it must recognise aggressive driving on drives that it has not seen,
    and better than a network that sees one frame at a time.

    \b
    tickcell export run/model.keras --out bundle
    tickcell export lstm.keras --out bundle --rate-hz 100 --golden walk.csv --sensors imu.json
    tickcell export gait.keras --out bundle --rate-hz 100 \
      --output speed --unit speed=m/s \
      --output activity --class activity=sit --class activity=walk
    tickcell serve --bundle bundle
    """
    with expected_trouble():
        _export(model, out, replace, options)


def _export(model: pathlib.Path, out: pathlib.Path, replace: bool, options: dict[str, Any]) -> None:
    check_place(out, replace)
    # Before TensorFlow is imported, which takes seconds.
    told = _told(model, options)

    from tickcell.drive.keras import quality
    from tickcell.model.keras import archive, configuration, typical
    from tickcell.model.keras import export as exporting

    for module in options["custom"]:
        configuration.load_custom(module)
    loaded = archive.load(model)
    description = _describe(loaded, told, options)
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
    content = model.read_bytes() if model.suffix == ".keras" else None
    bundle.write(out, content, replace=replace)
    _say(bundle, out)


def _told(path: pathlib.Path, options: dict[str, Any]) -> Description:
    """Merges the description beside the model, if there is one, with the flags.

    Without named sensors there are none yet; the model is not read here.

    Raises:
      UsageError: a flag is invalid, or the rate is unknown.
    """
    from tickcell.drive.keras.datasets import DRIVE
    from tickcell.model.keras import description as descriptions

    beside = options["description"] or path.parent / descriptions.FILE_NAME
    given = {key: options[key] for key in _DESCRIBED if options[key] is not None}
    if options["sensors"]:
        given["sensors"] = read_sensors(options["sensors"])
    if beside.is_file():
        described = dataclasses.replace(descriptions.Description.read(beside), **given)
    elif "rate_hz" in given:
        defaults = {"name": path.stem, "version": "1", "sensors": ()}
        described = descriptions.Description(**{**defaults, **given})
    else:
        raise click.UsageError(
            f"{path}: has no {descriptions.FILE_NAME} beside it; name the rate with --rate-hz."
        )
    for field in ("name", "version"):
        if not ids.is_id(got := getattr(described, field)):
            raise click.UsageError(f"--{field}: got {got!r}, expected {ids.EXPECTED}.")
    if not 0 < described.rate_hz < math.inf:
        raise click.UsageError(f"--rate-hz: got {described.rate_hz}, expected a rate above 0.")
    known = options["outputs"] or [output.name for output in described.outputs]
    outputs_of.check(known, options)
    golden = options["golden"]
    if golden not in (None, DRIVE) and not pathlib.Path(golden).exists():
        raise click.UsageError(f"--golden: {golden}: does not exist.")
    return described


def _describe(model: Any, described: Description, options: dict[str, Any]) -> Description:
    """Completes a description from the model itself."""
    from tickcell.model.keras import description as descriptions
    from tickcell.model.keras import graph, heads, plan, whole

    read = plan.read(graph.as_float32(model))
    if not described.sensors:
        described = dataclasses.replace(described, sensors=descriptions.sensors_of(read))
    return dataclasses.replace(
        described,
        sensors=whole.sensors(read, described.sensors),
        outputs=_outputs(described.outputs, [head.name for head in heads.of(read)], options),
    )


def _outputs(
    described: tuple[Described, ...], own: Sequence[str], options: dict[str, Any]
) -> tuple[Described, ...]:
    """Merges the description of the outputs with the flags."""
    named = [Described(name) for name in options["outputs"]]
    if len(named) == len(described):
        # The description of each output stays, under its new name.
        named = [
            dataclasses.replace(one, name=new.name)
            for one, new in zip(described, named, strict=True)
        ]
    named = named or list(described) or [Described(name) for name in own]
    return outputs_of.told(named, options)


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
        label = None  # Outputs are compared with those of Keras; labels are optional.
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
        raise RecordingError(f"{golden}: got {len(found)} recordings, expected one.")
    return found[0]


def _say(bundle: Bundle, out: pathlib.Path) -> None:
    card = bundle.card
    agreement = card.metrics["keras_agreement"]
    click.echo(f"{out}: {card.name} version {card.version}, fingerprint {bundle.fingerprint[:12]}")
    for line in outputs_of.lines(bundle):
        click.echo(line)
    click.echo(
        f"max |delta| to Keras over the whole sequence: {card.keras_max_delta:.2g} "
        f"over {card.keras_max_delta_steps} steps"
    )
    click.echo(f"For chunks: {card.metrics['steps_in_a_call']}.")
    if "delta_to_own_precision" in card.metrics:
        click.echo(
            "The model computes in another precision and is served in float32: |delta| to its own "
            f"outputs is up to {card.metrics['delta_to_own_precision']:.2g}."
        )
    if agreement["amplifies"]:
        growth = agreement["random_frames"]["growth"]
        steps = ", ".join(f"{delta:.2g} after {step}" for step, delta in growth.items())
        click.echo(
            "This recurrence amplifies its last bit, so it cannot agree with another "
            f"implementation for ever: |delta| on random frames is {steps} steps."
        )

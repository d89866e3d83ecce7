"""`tickcell bundle`."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from tickcell.cli.commands import outputs as outputs_of
from tickcell.cli.commands.places import check_place
from tickcell.cli.commands.training_errors import read_sensors
from tickcell.model.bundle import BundleError, Card
from tickcell.model.interface import InterfaceError
from tickcell.model.outputs import Described

if TYPE_CHECKING:
    from numpy.typing import NDArray

_File = click.Path(path_type=pathlib.Path, exists=True, dir_okay=False)


@click.command("bundle")
@click.argument("graph", type=_File)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=pathlib.Path, file_okay=False),
    help="The directory for the bundle.",
)
@click.option("--frame", required=True, help="The graph's input that takes the readings.")
@click.option("--state", "states", multiple=True, help="NAME=INPUT:OUTPUT, once for each state.")
@click.option(
    "--output", "outputs", multiple=True, required=True, help="NAME=OUTPUT, once for each output."
)
@click.option(
    "--batch", type=click.IntRange(1), help="The number of series that a graph of fixed size takes."
)
@click.option("--rate-hz", required=True, type=float, help="The frame rate of the training data.")
@click.option("--sensors", type=_File, help="A JSON file with the list of sensors.")
@click.option(
    "--golden", type=_File, help="An NPZ with frames [T, F] and, preferably, outputs [T, O]."
)
@click.option("--name", help="The model's name.  [default: GRAPH's]")
@click.option("--version", default="1", show_default=True, help="The model's version.")
@outputs_of.described
@click.option("--replace", is_flag=True, help="Replace an existing bundle.")
def bundle(graph: pathlib.Path, out: pathlib.Path, **options: Any) -> None:
    r"""Turns a LiteRT graph of one step into a bundle, from PyTorch, JAX or anything else.

    GRAPH is a .tflite file of float32 tensors. Name which next state belongs to which
    state: it is never guessed. If the golden has outputs, the graph is compared with them;
    otherwise its own outputs are stored, and the card says so. An output is a number,
    unless --kind or --class says otherwise. Signatures called step_B are used for B series
    at once.

    \b
    tickcell bundle step.tflite --out bundle --rate-hz 50 \
      --frame args_0 --state h=args_1:output_1 --output walk=output_0 --golden golden.npz
    tickcell serve --bundle bundle
    """
    from tickcell.model import packing, plain

    check_place(out, options["replace"])
    name = options["name"] or graph.stem
    card = Card(
        name=name,
        version=options["version"],
        rate_hz=options["rate_hz"],
        outputs={},
        warm_up_steps=0,
    )
    wiring = packing.Wiring(
        frame=options["frame"],
        states={key: _pair(pair) for key, pair in map(_named, options["states"])},
        outputs=dict(map(_named, options["outputs"])),
        batch=options["batch"],
    )
    described = outputs_of.told([Described(name) for name in wiring.outputs], options)
    sensors = read_sensors(options["sensors"]) if options["sensors"] else None
    frames, outputs = _golden(options["golden"])
    try:
        made = plain.bundle(
            graph.read_bytes(),
            wiring,
            card,
            described=described,
            sensors=sensors,
            frames=frames,
            outputs=outputs,
        )
    except InterfaceError as error:
        raise BundleError(f"{graph}: {error}") from error
    made.write(out, replace=options["replace"])
    click.echo(f"{out}: {card.name} version {card.version}, fingerprint {made.fingerprint[:12]}")
    for line in outputs_of.lines(made):
        click.echo(line)
    if outputs is None:
        click.echo(
            "The golden's outputs are the graph's own, so the graph was not compared with the "
            "model that it was made from; give that model's outputs with --golden."
        )
    else:
        agreed = made.card.metrics["golden_agreement"]
        click.echo(
            f"max |delta| to the golden: {agreed['max_delta']:.2g} over {len(outputs)} steps"
        )
    click.echo(f"For chunks: {made.card.metrics['steps_in_a_call']}.")
    shapes = made.card.metrics["batch_shapes"]
    if shapes == [1]:
        click.echo("The graph takes one series at a time, so sessions do not share its calls.")
    elif len(shapes) == 1:
        click.echo(
            f"The graph takes {shapes[0]} series at a time; with fewer, the rest is padding."
        )
    if unused := made.card.metrics.get("unused_signatures"):
        click.echo(f"Not used, because their last bits differ: {', '.join(unused)}.")


def _named(option: str) -> tuple[str, str]:
    name, equals, tensor = option.partition("=")
    if not (name and equals and tensor):
        raise click.UsageError(f"got {option!r}, expected NAME=TENSOR.")
    return name, tensor


def _pair(option: str) -> tuple[str, str]:
    given, colon, made = option.rpartition(":")
    if not (given and colon and made):
        raise click.UsageError(f"got the state {option!r}, expected INPUT:OUTPUT.")
    return given, made


def _golden(
    path: pathlib.Path | None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    if path is None:
        return None, None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            frames = np.ascontiguousarray(arrays["frames"], np.float32)
            outputs = arrays.get("outputs")
    except Exception as error:
        # zip, zlib, tokenize: each raises its own error for bytes that are not an NPZ.
        raise BundleError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); expected an NPZ with "
            "frames [T, F] and outputs [T, O]."
        ) from error
    return frames, None if outputs is None else np.ascontiguousarray(outputs, np.float32)

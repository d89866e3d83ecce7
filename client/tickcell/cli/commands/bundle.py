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
@click.option("--out", required=True, type=click.Path(path_type=pathlib.Path, file_okay=False))
@click.option("--frame", required=True, help="The graph's input that takes the readings.")
@click.option("--state", "states", multiple=True, help="NAME=INPUT:OUTPUT; once for each state.")
@click.option("--output", "outputs", multiple=True, required=True, help="NAME=OUTPUT; for each.")
@click.option(
    "--batch", type=click.IntRange(1), help="Series that a graph of fixed sizes takes at once."
)
@click.option("--rate-hz", required=True, type=float, help="Rate of frames it was trained at.")
@click.option("--sensors", type=_File, help="JSON list of sensors.")
@click.option("--golden", type=_File, help="NPZ with frames [T, F] and, better, outputs [T, O].")
@click.option("--name", help="Names the model.")
@click.option("--version", default="1", help="Tells versions of one name apart.")
@outputs_of.described
@click.option("--replace", is_flag=True, help="Replaces the bundle that is there.")
def bundle(graph: pathlib.Path, out: pathlib.Path, **options: Any) -> None:
    r"""Makes a bundle of a LiteRT graph of one step, from PyTorch, JAX or anything else.

    GRAPH is a .tflite file of float32 tensors. Which next state belongs to which state is
    said, never guessed. With the golden's outputs the graph is compared with the model
    that it was made of; without them they are the graph's own, and the card says so. An
    output is a number, if --kind and --class say nothing else. Signatures called step_B
    are used for B series at once.

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
            "The golden's outputs are the graph's own, so nothing says that the graph computes "
            "what it was made of; bring them with --golden."
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
            f"The graph takes {shapes[0]} series at a time; where there are fewer, the rest "
            "is padding."
        )
    if unused := made.card.metrics.get("unused_signatures"):
        click.echo(f"Not used, since their last bits differ: {', '.join(unused)}.")


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
        # zip, zlib, tokenize: of bytes that are no NPZ, each raises its own.
        raise BundleError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); expected an NPZ with "
            "frames [T, F] and outputs [T, O]."
        ) from error
    return frames, None if outputs is None else np.ascontiguousarray(outputs, np.float32)

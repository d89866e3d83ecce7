"""The command `tickcell verify`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click
import numpy as np

from tickcell.cli import progress, quiet_start, samples, server_process, source, verification
from tickcell.cli.commands import layouts, options
from tickcell.client import dropout
from tickcell.client.credentials import Credentials
from tickcell.model import Bundle

if TYPE_CHECKING:
    import pathlib

    from numpy.typing import NDArray

    from tickcell.cli.comparison import Comparison
    from tickcell.model.recording import Layout


@click.command()
@click.argument("recording", required=False)
@options.own_server
@options.credentials
@options.bundle
@click.option(
    "--keras/--no-keras",
    "with_keras",
    default=None,
    help="Compare with Keras over the whole recording.  [default: if TensorFlow is installed]",
)
@layouts.layout(label="", on_gap=("raise", "keep"))
def verify(
    recording: str | None,
    server: str | None,
    credentials: Credentials,
    bundle: pathlib.Path,
    with_keras: bool | None,
    layout: Layout,
) -> int:
    r"""Checks the promise on a recording: streamed outputs are those of the plain loop.

    Streams RECORDING tick by tick, in chunks, and as several series with different
    starts, and compares each, bit for bit, with a loop in this process, and with Keras
    over the whole recording. Without RECORDING, it streams the bundle's golden frames,
    whose outputs by Keras the bundle has. Exits with 1 if anything differs.

    \b
    tickcell verify
    tickcell verify drive.csv --no-keras
    tickcell verify drive.csv --server localhost:50061 --bundle my-model
    """
    loaded = Bundle.load(bundle)
    with contextlib.ExitStack() as stack:
        if server is None:
            own = server_process.temporary("--bundle", str(bundle))
            server, credentials = stack.enter_context(own).address, Credentials()
        served = verification.Place(server, credentials)
        return 0 if _verify(served, loaded, recording, layout, with_keras) else 1


def _verify(
    server: verification.Place,
    bundle: Bundle,
    path: str | None,
    layout: Layout,
    with_keras: bool | None,
) -> bool:
    model = verification.served_model(server, bundle)
    if path is None:
        whole = samples.golden(bundle)
    else:
        dropouts = dropout.Dropouts("raise", model.sensors, model.mask_value)
        read = source.open_source(path, model, dropouts, layout)
        for note in read.notes():
            click.echo(f"tickcell: {note}", err=True)
        with progress.bar("reading", read.expected_length, "frame") as advance:
            whole = read.whole(read.blocks(), advance)
        for note in read.closing_notes():
            click.echo(f"tickcell: {note}", err=True)
    run = verification.Verification(server, model, bundle.cell(), whole.frames)
    click.echo(
        f"{len(whole)} steps of {whole.name}, {model.name} {model.version}, fingerprint "
        f"{model.fingerprint[:12]}"
    )
    run.cell.prepare()
    click.echo(f"  up to {run.cell.stretch_step_count} steps of a chunk in one call of the cell")
    if not run.has_own_numerics:
        click.echo(
            f"  the server computes different last bits (numerics {model.numerics_digest}, here "
            f"{run.cell.numerics_digest}): compared by tolerance"
        )
    with progress.bar(whole.name, run.step_count) as run.advance:
        compared = list(run.run())
    results = [_show(result) for result in compared]
    can_keras = bundle.keras_path is not None and verification.has_keras()
    if with_keras or (with_keras is None and can_keras):
        quiet_start.tensorflow()
        results.append(_show(run.against_keras(verification.keras_outputs(bundle, whole.frames))))
    elif path is None:
        results.append(_show(run.against_keras(bundle.golden.outputs)))
    else:
        golden = verification.Verification(
            server, model, run.cell, bundle.golden.frames, "the golden"
        )
        results.append(_show(golden.against_keras(bundle.golden.outputs)))
        click.echo(f"  {whole.name} itself was not compared with Keras")
    _show_range(run.outputs)
    return all(result.is_passed for result in results)


def _show(result: Comparison) -> Comparison:
    verdict = "ok" if result.is_passed else "DIFFERS"
    click.echo(f"  {verdict:8}{result.what:15}{result.against:31}{result}")
    return result


def _show_range(outputs: NDArray[np.float32] | None) -> None:
    if outputs is not None:
        low, high = np.percentile(outputs, [5, 95])
        click.echo(f"  outputs lie between {low:.3f} and {high:.3f} (5th to 95th percentile)")

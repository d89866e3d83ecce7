"""`tickcell evaluate`."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING

import click

from tickcell.cli import progress
from tickcell.cli.commands import layouts
from tickcell.cli.commands.trouble import expected_trouble

if TYPE_CHECKING:
    from tickcell.model.keras.evaluation import Evaluation
    from tickcell.model.keras.scores import Scores
    from tickcell.model.recording import Layout

_File = click.Path(path_type=pathlib.Path, dir_okay=False)


@click.command()
@click.argument("bundle", type=click.Path(path_type=pathlib.Path, file_okay=False))
@click.argument("recordings", nargs=-1, required=True)
@click.option("--plot", type=_File, help="Draws output over label to a PNG.")
@click.option("--json", "report", type=_File, help="Writes all numbers to a JSON file.")
@layouts.layout()
def evaluate(
    bundle: pathlib.Path,
    recordings: tuple[str, ...],
    plot: pathlib.Path | None,
    report: pathlib.Path | None,
    layout: Layout,
) -> None:
    r"""Streams labelled RECORDINGS through a bundle, frame by frame, and scores the outputs.

    Recordings of another rate are brought to the bundle's, which is that of a file without
    times. Where a sequence has one label, the output at its last frame is scored. 'drive'
    is eight simulated drives that the shipped model was not trained on.

    \b
    tickcell evaluate bundle trip17.csv trip20.csv --plot outputs.png
    """
    with expected_trouble():
        from tickcell.drive.keras.datasets import DRIVE, held_out
        from tickcell.model.bundle import Bundle
        from tickcell.model.keras import evaluation, plots
        from tickcell.model.recording import open_recording

        loaded = Bundle.load(bundle)
        sensors, rate_hz = loaded.interface.sensors, loaded.card.rate_hz
        readers = []
        for path in recordings:
            if path == DRIVE:
                readers += [recording.reader() for recording in held_out()]
                continue
            reader = open_recording(
                path, sensors, layout, rate_hz=rate_hz, to_hz=rate_hz, sequences=True
            )
            for note in reader.notes():
                click.echo(f"tickcell: {reader.name}: {note}", err=True)
            readers.append(reader)
        lengths = [reader.expected_length for reader in readers]
        total = None if None in lengths else sum(filter(None, lengths))
        with progress.bar("streaming", total) as advance:
            measured, streamed = evaluation.evaluate(loaded, readers, advance)
        for reader in readers:
            for note in reader.closing_notes():
                click.echo(f"tickcell: {reader.name}: {note}", err=True)
        if plot is not None and len(streamed) > len(readers):
            raise click.UsageError(
                f"the files hold {len(streamed)} recordings; --plot draws a recording a file."
            )
        _print(measured, loaded.card.threshold)
        if any(reader.one_label for reader in readers):
            click.echo("of a sequence with one label, the output at its last frame was scored")
        if plot is not None:
            plots.outputs(streamed, loaded.card.threshold, plot)
        if report is not None:
            report.write_text(json.dumps(measured.to_dict(), indent=2) + "\n")


def _print(measured: Evaluation, threshold: float) -> None:
    width = max(len(name) for name in ("recording", "all", *measured.by_recording))
    click.echo(
        f"{'recording':{width}}  {'frames':>7} {'label 1':>8} {'accuracy':>8} {'ROC AUC':>8} "
        f"{'AP':>6} {'TP':>6} {'FP':>6} {'TN':>7} {'FN':>6}"
    )
    for name, row in [*measured.by_recording.items(), ("all", measured.overall)]:
        click.echo(f"{name:{width}}  {_row(row)}")
    click.echo(f"TP, FP, TN, FN: frames with label and output, threshold {threshold:g}")
    ages = ", ".join(f"{age}: {auc:.3f}" for age, auc in measured.by_stream_age.items())
    click.echo(f"ROC AUC by age of the stream: {ages}")
    if measured.forgetting_s is None:
        click.echo("a hard push to the state still shows after half of the first recording's start")
    else:
        click.echo(f"a hard push to the state is forgotten after {measured.forgetting_s:.1f} s")


def _row(row: Scores) -> str:
    return (
        f"{row.frame_count:7d} {row.positive_share:8.1%} {row.accuracy:8.3f} {row.roc_auc:8.3f} "
        f"{row.average_precision:6.3f} {row.true_positive:6d} {row.false_positive:6d} "
        f"{row.true_negative:7d} {row.false_negative:6d}"
    )

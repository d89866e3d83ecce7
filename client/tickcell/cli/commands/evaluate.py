"""`tickcell evaluate`."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tickcell.cli import progress, score_tables
from tickcell.cli.commands import layouts
from tickcell.cli.commands.training_errors import expected_trouble

if TYPE_CHECKING:
    from tickcell.model.keras.evaluation import Evaluation, Streamed
    from tickcell.model.keras.scored import Scored
    from tickcell.model.recording import Layout
    from tickcell.model.recording.labels import Labels
    from tickcell.model.recording.mending import Policy

_File = click.Path(path_type=pathlib.Path, dir_okay=False)

_MOST_DRAWN = 20


@click.command()
@click.argument("bundle", type=click.Path(path_type=pathlib.Path, file_okay=False))
@click.argument("recordings", nargs=-1, required=True)
@click.option("--output", help="The output to score.  [default: all, if one label is for all]")
@click.option("--plot", type=_File, help="Draw output over label as a PNG.")
@click.option("--json", "report", type=_File, help="Write all numbers to a JSON file.")
@layouts.layout()
@layouts.labels(kinds=False)
def evaluate(
    bundle: pathlib.Path,
    recordings: tuple[str, ...],
    output: str | None,
    plot: pathlib.Path | None,
    report: pathlib.Path | None,
    layout: Layout,
    labels: Labels,
    on_dropout: Policy | None,
) -> None:
    r"""Streams labelled RECORDINGS through a bundle, frame by frame, and scores the outputs.

    Recordings are resampled to the bundle's rate, which a file without times is assumed to
    have. If a sequence has one label, the output at its last frame is scored. The bundle
    determines the kind of the labels: 0 and 1, its classes, or numbers; frames with an
    empty label are not scored. If the outputs are of several kinds, --output names the one
    that the labels are for. 'drive' is eight simulated drives that the shipped model was
    not trained on.

    \b
    tickcell evaluate bundle trip17.csv trip20.csv --plot outputs.png
    """
    with expected_trouble():
        from tickcell.drive.keras.datasets import DRIVE, held_out
        from tickcell.model.bundle import Bundle
        from tickcell.model.keras import evaluation
        from tickcell.model.keras.scored import scored
        from tickcell.model.ranges import Ranges
        from tickcell.model.recording import open_recording
        from tickcell.model.recording.mending import Mending

        loaded = Bundle.load(bundle)
        sensors, rate_hz = loaded.interface.sensors, loaded.card.rate_hz
        ranges = Ranges(sensors, loaded.interface.mask_value)
        mending = None if on_dropout is None else Mending(on_dropout, ranges)
        chosen = scored(loaded, output, labels.null_class)
        for note in chosen.notes:
            click.echo(f"tickcell: {note}", err=True)
        if not labels.are_of_column:
            layout = dataclasses.replace(layout, label=None)
        readers = []
        for path in recordings:
            if path == DRIVE:
                readers += [recording.reader() for recording in held_out()]
                continue
            reader = open_recording(
                path,
                sensors,
                layout,
                rate_hz=rate_hz,
                to_hz=rate_hz,
                dropouts=mending is not None,
                labelled=labels.are_of_column,
                sequences=True,
                labelling=chosen.labelling,
            )
            for note in reader.notes():
                click.echo(f"tickcell: {reader.name}: {note}", err=True)
            readers.append(reader)
        lengths = [reader.expected_length for reader in readers]
        total = None if None in lengths else sum(filter(None, lengths))
        with progress.bar("streaming", total) as advance:
            measured, streamed = evaluation.evaluate(
                loaded, readers, advance, chosen=chosen, labels=labels, mending=mending
            )
        for reader in readers:
            for note in reader.closing_notes():
                click.echo(f"tickcell: {reader.name}: {note}", err=True)
        for note in mending.notes() if mending else ():
            click.echo(f"tickcell: {note}", err=True)
        if any(part.one_label for part in streamed):
            click.echo("for a recording with one label, the output at its last frame is scored")
        for line in score_tables.lines(measured, chosen):
            click.echo(line)
        if plot is not None:
            _plot(streamed, measured, chosen, plot)
        if report is not None:
            report.write_text(json.dumps(measured.to_dict(), indent=2) + "\n")


def _plot(
    streamed: Sequence[Streamed],
    measured: Evaluation,
    chosen: Scored,
    path: pathlib.Path,
) -> None:
    """Draws outputs over time; of classes and numbers, and of many recordings, over labels."""
    from tickcell.model.keras import plots
    from tickcell.model.keras.scores import ClassScores

    written = []
    labelling = chosen.labelling
    if labelling.kind == "classes" and len(chosen.parts) > 1:
        raise click.UsageError("--plot draws a single output of classes; name it with --output.")
    if len(streamed) <= _MOST_DRAWN:
        plots.outputs(streamed, chosen, path)
        written.append(path)
    elif labelling.kind == "probability":
        raise click.UsageError(
            f"the files have {len(streamed)} recordings; --plot draws {_MOST_DRAWN} at most."
        )
    if isinstance(overall := measured.first.overall, ClassScores):
        written.append(path.with_name(f"{path.stem}-confusion{path.suffix}"))
        plots.confusion(overall, labelling.classes, written[-1])
    if labelling.kind == "number":
        written.append(path.with_name(f"{path.stem}-truth{path.suffix}"))
        plots.truth(streamed, chosen, written[-1])
    click.echo("drawn: " + ", ".join(map(str, written)))

"""The command `tickcell rerun`."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import click

from tickcell.cli import progress
from tickcell.model import Bundle
from tickcell.model.bundle import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tickcell.model import Cell
    from tickcell.server.flight.reading import FlightReader, Said
    from tickcell.server.flight.segments import Ended, Segment
    from tickcell.server.flight.timeline import Missing, Repeated, Timeline, Unknown

_PLACE = click.Path(exists=True, path_type=pathlib.Path)


@click.command()
@click.argument("recordings", nargs=-1, required=True, type=_PLACE)
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    type=click.Path(path_type=pathlib.Path),
    help="A bundle that was served; may be given again.  [default: the one that ships with "
    "tickcell]",
)
@click.option(
    "--models",
    type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path),
    help="A directory of models that were served: NAME/VERSION/ is a bundle.",
)
@click.option("--all", "shows_all", is_flag=True, help="Show the segments that agree, too.")
def rerun(
    recordings: Sequence[pathlib.Path],
    bundles: Sequence[pathlib.Path],
    models: pathlib.Path | None,
    shows_all: bool,
) -> int:
    r"""Computes flight recordings again, and compares every bit.

    RECORDINGS are files that 'tickcell serve --record' wrote, or directories of them, of any
    number of servers. Each segment, steps that follow one another in one file, is computed
    by the plain loop from the state that it begins with. Steps that are missing between
    segments are named. Exits with 1 if any bit differs, a segment could not be computed, or
    a file is damaged.

    \b
    tickcell rerun flights
    tickcell rerun flights other-server/flights --models /srv/models
    """
    from tickcell.server.flight import reading, timeline

    try:
        files = reading.found(recordings)
        cells = _Cells(bundles, models)
        readers = [reading.FlightReader(path) for path in files]
        items = [item for reader in readers for item in _segments(reader, cells)]
    except (reading.FlightError, OSError) as error:
        raise click.ClickException(str(error)) from error
    lines = list(timeline.timelines(items))
    rows = [row for line in lines for row in _rows(line, shows_all)]
    if rows:
        _show(rows)
    status = _sum_up(len(files), lines)
    return 1 if any(reader.is_damaged for reader in readers) else status


class _Cells:
    """The cells of some bundles, by fingerprint."""

    def __init__(self, bundles: Sequence[pathlib.Path], models: pathlib.Path | None) -> None:
        paths = [*bundles, *(sorted(models.glob("*/*/")) if models is not None else ())]
        self._bundles = {
            loaded.fingerprint: loaded for loaded in map(Bundle.load, paths or [SHIPPED])
        }
        self._cells: dict[str, Cell] = {}

    def get(self, fingerprint: str) -> Cell | None:
        """Returns the cell of a fingerprint; None for one that is not here."""
        if fingerprint not in self._cells:
            bundle = self._bundles.get(fingerprint)
            if bundle is None:
                return None
            cell = self._cells[fingerprint] = bundle.cell()
            cell.prepare()
        return self._cells[fingerprint]


def _segments(reader: FlightReader, cells: _Cells) -> Iterator[Segment | Ended]:
    """Runs one file, and says how it ends."""
    from tickcell.server.flight import segments

    path = reader.path
    with progress.bar(path.name, None, "message") as advance:

        def messages() -> Iterator[Said]:
            for said in reader:
                advance(1)
                yield said

        yield from segments.rerun(path, messages(), cells.get)
    if reader.problem:
        click.echo(f"tickcell: {path.name}: {reader.problem}", err=True)


def _rows(line: Timeline, shows_all: bool) -> Iterator[tuple[str, ...]]:
    """Yields what is shown of a session, in columns."""
    for segment in line.segments:
        if segment.problem or (shows_all and segment.step_count):
            steps = _steps(segment.start.step, segment.end.step)
            yield _name(segment), steps, segment.verdict, segment.path.name, segment.problem
    for unknown in line.unknown:
        why = "its beginning is in none of these files"
        yield _name(unknown), f"before {unknown.next_step}", "unknown", "", why
    for gap in line.gaps:
        steps = _steps(gap.first_step, gap.next_step)
        why = f"{gap.dropped} of them were dropped and counted" if gap.dropped else ""
        yield _name(gap), steps, "missing", "", why
    for repeat in line.repeats:
        steps = _steps(repeat.first_step, repeat.next_step)
        yield _name(repeat), steps, "twice", "", "the store was put back in between"


def _name(part: Segment | Missing | Repeated | Unknown) -> str:
    """Returns session and generation, as a person compares them."""
    return f"{'/'.join(filter(None, part.key))} {part.generation:014x}"


def _steps(first: int, following: int) -> str:
    return f"{first}" if following == first + 1 else f"{first} to {following - 1}"


def _show(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = [each.ljust(width) for each, width in zip(row, widths, strict=True)]
        click.echo("  ".join(padded).rstrip())


def _sum_up(file_count: int, lines: Sequence[Timeline]) -> int:
    """Says what came of all; returns the exit status."""
    segments = [each for line in lines for each in line.segments if each.step_count or each.problem]
    steps = sum(each.step_count for each in segments)
    differing = sum(each.verdict == "DIFFERS" for each in segments)
    unrun = sum(each.verdict == "not run" for each in segments)
    gaps = [gap for line in lines for gap in line.gaps]
    missing, dropped = sum(gap.step_count for gap in gaps), sum(gap.dropped for gap in gaps)
    click.echo(
        f"{_some(file_count, 'file')}, {_some(len(lines), 'session')}, {_some(steps, 'step')}; "
        f"of {_some(len(segments), 'segment')}, {len(segments) - differing - unrun} agree to the "
        f"bit, {differing} {'differs' if differing == 1 else 'differ'}"
        f"{f', {unrun} could not be run' if unrun else ''}"
    )
    click.echo(
        f"{_some(missing, 'step')} missing in {_some(len(gaps), 'stretch', 'stretches')}, of which "
        f"{dropped} were dropped and counted"
        if gaps
        else "no step is missing between segments"
    )
    return 1 if differing or unrun else 0


def _some(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"

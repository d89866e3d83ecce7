"""Flight recordings as tests look at them: run again, and written anew with a bit changed."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import NamedTuple

from tickcell.model import Bundle, Cell
from tickcell.server.flight import reading, segments, timeline
from tickcell.server.flight.files import FlightFiles
from tickcell.server.flight.reading import FlightReader, Said
from tickcell.server.flight.segments import Ended, Segment
from tickcell.server.flight.timeline import Timeline


class Rerun(NamedTuple):
    """What came of some files.

    Attributes:
      lines: the timeline of each session.
      problems: of the files, where they were not finished, by name.
    """

    lines: list[Timeline]
    problems: dict[str, str]

    @property
    def segments(self) -> list[Segment]:
        """Those that have steps."""
        return [each for line in self.lines for each in line.segments if each.step_count]

    @property
    def step_count(self) -> int:
        """The steps of all segments."""
        return sum(each.step_count for each in self.segments)

    @property
    def missing_count(self) -> int:
        """The steps of all gaps."""
        return sum(gap.step_count for line in self.lines for gap in line.gaps)

    @property
    def dropped_count(self) -> int:
        """Those of them that were counted."""
        return sum(gap.dropped for line in self.lines for gap in line.gaps)

    def check(self) -> None:
        """Checks that all bits agree."""
        wrong = [each.problem for line in self.lines for each in line.segments if each.problem]
        assert wrong == []


def rerun(*places: pathlib.Path, cell: Cell | None = None) -> Rerun:
    """Runs all files in some places again, with the shipped model or another cell for all."""
    cell = cell or Bundle.load().cell()
    found: list[Segment | Ended] = []
    problems = {}
    for path in reading.found(places):
        reader = FlightReader(path)
        found += segments.rerun(path, reader, lambda _: cell)
        if reader.problem:
            problems[path.name] = reader.problem
    return Rerun(list(timeline.timelines(found)), problems)


def said(*places: pathlib.Path) -> list[Said]:
    """Returns every message."""
    return [each for path in reading.found(places) for each in FlightReader(path)]


def rewritten(
    place: pathlib.Path, target: pathlib.Path, change: Callable[[Said], None]
) -> pathlib.Path:
    """Writes all messages of a place anew, each as it was changed; returns the target."""
    file = FlightFiles(target, 10**9, {}).begin()
    for each in said(place):
        change(each)
        write = file.event if each.is_event else file.steps
        write(each.key, each.wall_ns, each.message.SerializeToString())
    file.finish()
    return target

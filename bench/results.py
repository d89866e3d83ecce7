"""Runs kept in files: the machine, its load, and the rows, as JSON with sorted keys."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import machine, plot, serving, table
from bench.row import Aim, Row
from tickcell.model import MissingExtraError

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence


DIRECTORY = serving.HERE / "bench" / "results"


class Run(NamedTuple):
    """One run of the benchmark.

    Attributes:
      began: when, in UTC, to the minute.
      machine: the processor, its cores, and the versions.
      load_before: how busy the machine was, in words.
      load_after: likewise, which includes the run itself.
      rows: in the order in which they were measured.
    """

    began: str
    machine: str
    load_before: str
    load_after: str
    rows: list[Row]

    def write(self, path: pathlib.Path) -> None:
        """Writes the run to a file."""
        held: dict[str, Any] = self._asdict()
        held["rows"] = [_held(row) for row in self.rows]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(held, indent=2, sort_keys=True) + "\n", encoding="utf-8")


class Recorder:
    """Collects the rows of a run that has begun."""

    def __init__(self) -> None:
        self.began = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H%MZ}"
        self.load_before = machine.load()
        self._rows: list[Row] = []

    def add(self, rows: Sequence[Row]) -> None:
        """Adds what was measured."""
        self._rows += rows

    def keep(self, directory: pathlib.Path, name: str = "") -> str:
        """Writes the run, which ends now, and its plot to a directory.

        Args:
          directory: is made if there is none.
          name: what follows the time in the names of the files.

        Returns:
          The machine, the table, and where it was written, for a person to read.
        """
        run = Run(self.began, machine.describe(), self.load_before, machine.load(), self._rows)
        path = directory / f"{run.began}{name}.json"
        run.write(path)
        said = [
            run.machine,
            f"load before {run.load_before}, after {run.load_after}\n",
            table.show(run.rows),
            f"\nwritten: {path}",
        ]
        if any(row.is_met is not None for row in run.rows):
            picture = path.with_suffix(".png")
            try:
                plot.draw(run, picture)
            except MissingExtraError as error:
                said.append(f"not plotted: {error}")
            else:
                said.append(f"plotted: {picture}")
        return "\n".join(said)


def read(path: pathlib.Path) -> Run:
    """Reads a run from a file that `Run.write` wrote."""
    held = json.loads(path.read_text(encoding="utf-8"))
    held["rows"] = [_row(each) for each in held["rows"]]
    return Run(**held)


def _held(row: Row) -> dict[str, Any]:
    held = row._asdict()
    held["aim"] = None if row.aim is None else row.aim._asdict()
    # Six digits say more than any run is worth.
    held["value"] = None if row.value is None else float(f"{row.value:.6g}")
    return held


def _row(held: dict[str, Any]) -> Row:
    aim = held["aim"]
    return Row(**{**held, "aim": None if aim is None else Aim(**aim)})

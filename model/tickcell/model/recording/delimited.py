"""Tables of delimited text: CSV and its kin, one row a line.

The first line names the columns, or the caller does. Rows are counted by their lines, the
first of which is 1.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence

import numpy as np

from tickcell.model.recording.dialect import fits, judge, name_of
from tickcell.model.recording.errors import RecordingError
from tickcell.model.recording.layout import Layout
from tickcell.model.recording.table import BATCH_ROWS, Batch, Chosen, Table
from tickcell.model.recording.text import Lines

# What tools write for a reading that is missing, and for booleans.
_WORDS = {
    **dict.fromkeys(("", "na", "n/a", "null", "none"), math.nan),
    "true": 1.0,
    "false": 0.0,
}


class DelimitedTable(Table):
    """Rows of a delimited text."""

    def __init__(self, lines: Lines, wanted: Sequence[str], layout: Layout) -> None:
        """Judges the text by its first rows, or live by the first line.

        Args:
          lines: of the text.
          wanted: the columns that must be there.
          layout: what is known of it.

        Raises:
          RecordingError: there is no row, or a column that must be there is not.
        """
        super().__init__(lines.source)
        self.is_live = lines.is_live
        self._lines = lines
        self._dialect = judge(lines, wanted, layout)
        self.names = self._dialect.names
        self.expected_length = lines.expected()
        self._is_renamed = bool(layout.columns) and self._dialect.has_header
        self._decimal = layout.decimal
        self._is_decimal_given = layout.decimal is not None

    def sample(self, column: int) -> list[str]:
        found: list[str] = []
        if self.is_live:
            return found
        try:
            for cells in self._dialect.rows(self._lines.sample()):
                if not any(map(str.strip, cells)):
                    continue
                if not fits(cells, len(self.names)):
                    break  # It is told, with its place, when its row is read.
                found.append(cells[column])
        except csv.Error:
            pass  # Likewise.
        return found

    def batches(self, chosen: Chosen) -> Iterator[Batch]:
        size = 1 if self.is_live else BATCH_ROWS
        rows: list[int] = []
        readings: list[list[float]] = []
        times: list[str] = []
        labels: list[str] = []
        names: list[str] = []

        def batch() -> Batch:
            taken = Batch(
                rows.copy(),
                np.array(readings, np.float64).reshape(-1, len(chosen.sensors)),
                None if chosen.time is None else times.copy(),
                None if chosen.label is None else labels.copy(),
                names=None if chosen.recording is None else names.copy(),
            )
            for column in (rows, readings, times, labels, names):
                column.clear()
            return taken

        try:
            for cells in self._rows():
                readings.append(self._readings(cells, chosen.sensors))
                rows.append(self._lines.number)
                if chosen.time is not None:
                    times.append(cells[chosen.time])
                if chosen.label is not None:
                    labels.append(cells[chosen.label])
                if chosen.recording is not None:
                    names.append(cells[chosen.recording])
                if len(rows) == size:
                    yield batch()
        except RecordingError:
            if rows:
                yield batch()
            raise
        if rows:
            yield batch()

    def notes(self) -> Iterator[str]:
        delimiter, decimal = self._dialect.delimiter, self._decimal
        if self._is_renamed:
            yield "the first row has names; those of --columns are used instead"
        if delimiter != ",":
            yield f"cells are separated by {name_of(delimiter)}"
        if decimal == "," and not self._is_decimal_given:
            yield "a comma is taken for the decimal mark (--decimal)"
        if self._lines.comments:
            yield f"comment lines skipped: {self._lines.comments}"

    def _rows(self) -> Iterator[list[str]]:
        """Yields the cells of each row that is not blank; as many as there are names."""
        count = len(self.names)
        try:
            for cells in self._dialect.rows(self._lines):
                if len(cells) != count:
                    if not any(map(str.strip, cells)):
                        continue
                    self._check_width(cells)
                yield cells
        except csv.Error as error:
            raise RecordingError(
                f"{self.source}: row {self._lines.number}: is not CSV: {error}."
            ) from error

    def _check_width(self, cells: list[str]) -> None:
        """Takes separators at a row's end for no cells, and refuses other numbers of cells."""
        count = len(self.names)
        if not fits(cells, count):
            raise RecordingError(
                f"{self.source}: row {self._lines.number}: cells: got {len(cells)}, expected "
                f"{count}, one for each name; repair the row, or remove it."
            )

    def _readings(self, cells: Sequence[str], columns: Sequence[int]) -> list[float]:
        if self._decimal is None:
            self._judge_decimal([cells[column] for column in columns])
        try:
            if self._decimal == ",":
                return [_with_comma(cells[column]) for column in columns]
            return [float(cells[column]) for column in columns]
        except ValueError:
            return [self._reading(cells[column], column) for column in columns]

    def _judge_decimal(self, cells: Sequence[str]) -> None:
        """Settles the decimal mark by the first reading that has one."""
        for cell in cells:
            if "." in cell:
                self._decimal = "."
                return
            if "," in cell and self._dialect.delimiter != ",":
                self._decimal = ","
                return

    def _reading(self, cell: str, column: int) -> float:
        """Returns what a doubtful cell holds, NaN where it is empty."""
        word = cell.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
        try:
            return _with_comma(cell) if self._decimal == "," else float(cell)
        except ValueError:
            marks = {",": " with a decimal comma", ".": " with a decimal point"}
            mark = marks.get(self._decimal or "", "") if {".", ","} & {*cell} else ""
            if not mark:
                comma = "; --decimal , takes the comma for the decimal mark"
                mark = comma if "," in cell else "; leave the cell empty where there is none"
            raise RecordingError(
                f"{self.source}: row {self._lines.number}, column {self.names[column]!r}: got "
                f"{cell!r}, expected a number{mark}."
            ) from None


def _with_comma(cell: str) -> float:
    """Returns a number with a decimal comma; a point in it would part thousands."""
    if "." in cell:
        raise ValueError(cell)
    return float(cell.replace(",", "."))

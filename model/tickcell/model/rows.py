"""Rows of a CSV file, read one by one as they arrive.

The first row names the columns. A column named like a sensor holds its readings, "t" holds
seconds, and one that the caller names holds the label; the others are ignored. Rows are
counted as in a spreadsheet: the first is 1, the names are in it.
"""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tickcell.model.interface import Sensor

TIME = "t"

_LARGEST = float(np.finfo(np.float32).max)


class RecordingError(ValueError):
    """A recording cannot be read; the message names the file and the place in it."""


class Row(NamedTuple):
    """One row of a recording.

    Attributes:
      number: of the row in the file, as in a spreadsheet.
      frame: `[F]` float32.
      time: seconds; None where the file has no times.
      label: 0 or 1; None where the file has no labels.
    """

    number: int
    frame: NDArray[np.float32]
    time: float | None
    label: float | None


class Columns:
    """Where in a row the readings, the time and the label stand.

    Attributes:
      names: of all columns.
      sensors: the columns of the sensors, 0-based, in the order of a frame.
      time, label: columns; None where there is none.
      ignored: the names of the other columns.
    """

    def __init__(
        self, source: str, names: Sequence[str], sensors: Sequence[Sensor], label: str | None
    ) -> None:
        """Finds the columns in the first row.

        Raises:
          RecordingError: a sensor or the label has no column, or one of them more than one.
        """
        # What some spreadsheets put at the head of a file is no part of a name.
        names = [column.strip().removeprefix("\ufeff").strip() for column in names]
        wanted = [sensor.name for sensor in sensors]
        asked = [*wanted, *([] if label is None else [label])]
        missing = [column for column in asked if column not in names]
        if missing:
            raise RecordingError(
                f"{source}: row 1: no column is named {_list(missing)}; the columns are "
                f"{_list(names)}."
            )
        known = [*asked, TIME]
        for column in known:
            if names.count(column) > 1:
                raise RecordingError(
                    f"{source}: row 1: {names.count(column)} columns are named {column!r}, "
                    "expected one."
                )
        self.names = names
        self.sensors = [names.index(column) for column in wanted]
        self.time = names.index(TIME) if TIME in names else None
        self.label = None if label is None else names.index(label)
        self.ignored = tuple(column for column in names if column not in known)


class Rows:
    """Iterates over the rows of a CSV, never reading further ahead than the row it yields."""

    def __init__(
        self,
        lines: Iterable[str],
        sensors: Sequence[Sensor],
        *,
        source: str,
        label: str | None = None,
        dropouts: bool = False,
    ) -> None:
        """Reads the first row.

        Args:
          lines: of the CSV, such as an open file.
          sensors: whose readings make a frame, in its order.
          source: what to call the file in messages.
          label: the name of the label's column; None for rows without.
          dropouts: whether a reading may be missing (an empty cell, NaN or infinite); it is
            NaN in the frame.

        Raises:
          RecordingError: there is no first row, or it lacks a sensor.
        """
        self._source = source
        self._dropouts = dropouts
        self._reader = csv.reader(lines)
        self._last_time = -math.inf
        names = self._cells()
        if names is None:
            raise RecordingError(f"{source}: is empty, expected a first row of column names.")
        self.columns = Columns(source, names, sensors, label)

    def __iter__(self) -> Iterator[Row]:
        """Yields the rows.

        Raises:
          RecordingError: a row cannot be read; those before it have been yielded.
        """
        number = 1
        while (cells := self._cells()) is not None:
            number += 1
            if cells:
                yield self._row(number, cells)

    def _cells(self) -> list[str] | None:
        try:
            return next(self._reader, None)
        except UnicodeDecodeError as error:
            raise RecordingError(f"{self._source}: is not UTF-8 text: {error.reason}.") from error
        except csv.Error as error:
            raise RecordingError(
                f"{self._source}: row {self._reader.line_num}: is not CSV: {error}."
            ) from error

    def _row(self, number: int, cells: list[str]) -> Row:
        columns = self.columns
        if len(cells) != len(columns.names):
            raise RecordingError(
                f"{self._source}: row {number}: got {len(cells)} cells, expected "
                f"{len(columns.names)}, as in row 1."
            )
        frame = np.array(self._readings(number, cells), np.float32)
        time = label = None
        if columns.time is not None:
            time = self._time(number, self._number(number, columns.time, cells[columns.time]))
        if columns.label is not None:
            label = self._number(number, columns.label, cells[columns.label])
            if label not in (0.0, 1.0):
                raise self._error(number, columns.label, cells[columns.label], "0 or 1")
        return Row(number, frame, time, label)

    def _readings(self, number: int, cells: list[str]) -> list[float]:
        columns = self.columns.sensors
        try:
            readings = [float(cells[column]) for column in columns]
        except ValueError:
            pass
        else:
            if all(-_LARGEST <= reading <= _LARGEST for reading in readings):
                return readings
        return [self._reading(number, column, cells[column]) for column in columns]

    def _reading(self, number: int, column: int, cell: str) -> float:
        """Returns what a doubtful cell holds, or says what is wrong with it."""
        if self._dropouts and not cell.strip():
            return math.nan
        reading = _parsed(cell)
        if reading is None:
            raise self._error(number, column, cell, "a number")
        if abs(reading) <= _LARGEST:
            return reading
        if not self._dropouts:
            raise self._error(number, column, cell, "a finite float32")
        return math.nan

    def _number(self, number: int, column: int, cell: str) -> float:
        parsed = _parsed(cell)
        if parsed is None or not math.isfinite(parsed):
            raise self._error(number, column, cell, "a finite number")
        return parsed

    def _time(self, number: int, time: float) -> float:
        if time <= self._last_time:
            raise RecordingError(
                f"{self._source}: row {number}, column {TIME!r}: got {time:g} after "
                f"{self._last_time:g}, expected times that increase."
            )
        self._last_time = time
        return time

    def _error(self, number: int, column: int, cell: str, expected: str) -> RecordingError:
        return RecordingError(
            f"{self._source}: row {number}, column {self.columns.names[column]!r}: got {cell!r}, "
            f"expected {expected}."
        )


def _parsed(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)

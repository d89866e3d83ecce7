"""Tables of JSON lines: an object a row, whose numbers may lie in objects and lists within it.

A column's name is the way to a number: `t`, `imu.gyro.z`, `acc.0`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tickcell.model.recording.errors import RecordingError
from tickcell.model.recording.table import BATCH_ROWS, Batch, Chosen, Table, not_named
from tickcell.model.recording.text import Lines


class JsonLinesTable(Table):
    """Rows of JSON lines."""

    def __init__(self, lines: Lines, wanted: Sequence[str]) -> None:
        """Takes the columns from the first rows, or live from the first one.

        Args:
          lines: of the text, the first of which is not blank.
          wanted: the columns that must be there.

        Raises:
          RecordingError: the first row is no object, or a column that must be there is not.
        """
        super().__init__(lines.source)
        self.is_live = lines.is_live
        self._lines = lines
        looked = lines.sample()
        self.expected_length = lines.expected()
        self._sample = [flat for line in looked if (flat := _lenient(line)) is not None]
        # In the order in which they first come.
        self.names = tuple(dict.fromkeys(name for row in self._sample for name in row))
        if not self._sample:
            raise RecordingError(
                f"{self.source}: row 1: is not a JSON object by itself; write one object per "
                "line, as jq -c does."
            )
        if missing := [name for name in wanted if name not in self.names]:
            raise not_named(f"{self.source}: row 1", "column", missing, self.names)

    def sample(self, column: int) -> list[Any]:
        if self.is_live:
            return []
        return [row[self.names[column]] for row in self._sample if self.names[column] in row]

    def batches(self, chosen: Chosen) -> Iterator[Batch]:
        size = 1 if self.is_live else BATCH_ROWS
        taken: list[tuple[int, Mapping[str, Any]]] = []
        try:
            for line in self._lines:
                if line.strip():
                    taken.append((self._lines.number, self._row(line, chosen)))
                if len(taken) == size:
                    yield self._batch(taken, chosen)
                    taken = []
        except RecordingError:
            if taken:
                yield self._batch(taken, chosen)
            raise
        if taken:
            yield self._batch(taken, chosen)

    def _batch(self, taken: Sequence[tuple[int, Mapping[str, Any]]], chosen: Chosen) -> Batch:
        names = [self.names[column] for column in chosen.sensors]
        readings = [[row[name] for name in names] for _, row in taken]
        times, labels, recordings = (
            None if column is None else [row.get(self.names[column]) for _, row in taken]
            for column in (chosen.time, chosen.label, chosen.recording)
        )
        return Batch(
            [number for number, _ in taken],
            np.array(readings, np.float64).reshape(-1, len(names)),
            times,
            labels,
            names=recordings,
        )

    def _row(self, line: str, chosen: Chosen) -> dict[str, Any]:
        """Returns a row by the names of its columns, with a number for each sensor."""
        try:
            row = _flat(json.loads(line))
        except ValueError as error:
            raise RecordingError(
                f"{self.source}: row {self._lines.number}: is not a JSON object: {error}."
            ) from error
        for column in chosen.sensors:
            name = self.names[column]
            row[name] = self._reading(name, row.get(name))
        return row

    def _reading(self, name: str, value: Any) -> float:
        """Returns a reading, NaN where there is none."""
        if value is None:
            return math.nan
        if not isinstance(value, int | float):
            raise RecordingError(
                f"{self.source}: row {self._lines.number}, {name!r}: got {json.dumps(value)}, "
                "expected a number, or null where there is none."
            )
        try:
            return float(value)
        except OverflowError:
            return math.inf


def _lenient(line: str) -> dict[str, Any] | None:
    """Returns a row to judge by; None for what will be told when its row is read."""
    try:
        return _flat(json.loads(line)) if line.strip() else None
    except ValueError:
        return None


def _flat(value: Any) -> dict[str, Any]:
    """Returns what lies within an object by the way to it."""
    if not isinstance(value, dict):
        raise ValueError(f"got {json.dumps(value)[:40]}")
    found: dict[str, Any] = {}
    _collect(value, "", found)
    return found


def _collect(value: Any, way: str, found: dict[str, Any]) -> None:
    if isinstance(value, dict):
        parts: Iterable[tuple[object, Any]] = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    else:
        found[way] = value
        return
    for name, part in parts:
        _collect(part, f"{way}.{name}" if way else str(name), found)

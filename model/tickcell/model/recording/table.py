"""A file as rows of named columns, whatever its format."""

from __future__ import annotations

import abc
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tickcell.model.recording.errors import RecordingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# By so many rows a file is judged.
SAMPLE_ROWS = 1000
# So many rows are read at a time, where they need not be given as they come.
BATCH_ROWS = 512

_LISTED = 12


class Chosen(NamedTuple):
    """The columns to read, each by its place in a table's names.

    Attributes:
      sensors: in the order of a frame.
      time, label: None where there is none.
      recording: tells recordings apart; None where the format does, or nothing.
    """

    sensors: Sequence[int]
    time: int | None
    label: int | None
    recording: int | None = None


class Batch(NamedTuple):
    """Rows that follow each other.

    Attributes:
      rows: where each stands in the file, counted as its format counts.
      readings: `[n, F]` float64; NaN where a row has none.
      times: as the file has them: texts, numbers or an array; None where none were chosen.
      labels: likewise.
      recording: which of the recordings in the file they are of, from 0.
      names: what the column of recordings has, as the file has it; None without one.
    """

    rows: Sequence[int]
    readings: NDArray[np.float64]
    times: Sequence[Any] | NDArray[Any] | None
    labels: Sequence[Any] | NDArray[Any] | None
    recording: int = 0
    names: Sequence[Any] | NDArray[Any] | None = None

    def part(self, start: int, stop: int) -> Batch:
        """Returns some of the rows."""
        rows, readings, times, labels, recording, names = self
        kept = slice(start, stop)
        return Batch(
            rows[kept],
            readings[kept],
            None if times is None else times[kept],
            None if labels is None else labels[kept],
            recording,
            None if names is None else names[kept],
        )


class Table(abc.ABC):
    """Rows of named columns; they are read once.

    Attributes:
      source: what to call the file in messages.
      names: of the columns.
      unread: the names of what else is in the file, and is no column.
      row, column: what a row and a column are called in messages.
      is_live: whether rows are given as they come, and none is read ahead.
      length: the number of rows; None where only reading all of them would tell.
      expected_length: about how many rows there are, where that can be told.
      time_columns: the columns that the format itself knows to be times, with their units.
      label_column: the column that the format itself knows to be labels, if there is one.
      has_sequences: whether it is a set of sequences, each with rows of its own.
      one_label: whether each recording in the file has one label, repeated over its rows.
    """

    row = "row"
    column = "column"
    is_live = False
    length: int | None = None
    expected_length: int | None = None
    label_column: str | None = None
    has_sequences = False
    one_label = False

    def __init__(self, source: str) -> None:
        """Names the file."""
        self.source = source
        self.names: Sequence[str] = ()
        self.unread: Sequence[str] = ()
        self.time_columns: dict[str, str] = {}

    @abc.abstractmethod
    def sample(self, column: int) -> list[Any]:
        """Returns what a column has in the first rows; nothing where rows come live."""

    @abc.abstractmethod
    def batches(self, chosen: Chosen) -> Iterator[Batch]:
        """Yields all rows.

        Raises:
          RecordingError: a row cannot be read; those before it have been yielded.
        """

    def notes(self) -> Iterator[str]:
        """Yields what was assumed of the file, as sentences; once it is read, all of it."""
        yield from ()


def not_named(
    place: str, column: str, missing: Sequence[str], names: Sequence[str]
) -> RecordingError:
    """Returns the error of columns of sensors that are not there.

    Args:
      place: where they should be.
      column: what a column is called.
      missing: the names of those that are not there.
      names: of those that are.
    """
    return RecordingError(
        f"{place}: no {column} is named {listed(missing)}; the {column}s are {listed(names)}. Name "
        f"the {column} of a sensor with --source {shlex.quote(missing[0])}=COLUMN, or in training "
        "other sensors with --sensors."
    )


def listed(names: Sequence[str]) -> str:
    """Returns names for a sentence: the first ones, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:_LISTED])
    more = len(names) - _LISTED
    return shown if more <= 0 else f"{shown} and {more} more"

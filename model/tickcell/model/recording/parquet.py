"""Tables of Parquet files, whose columns go to NumPy as they are."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickcell.model import extras
from tickcell.model.recording.errors import RecordingError, ended
from tickcell.model.recording.table import SAMPLE_ROWS, Batch, Chosen, Table, not_named

_BATCH_ROWS = 8192


class ParquetTable(Table):
    """Rows of a Parquet file, of which the first is 1."""

    def __init__(self, file: pathlib.Path, wanted: Sequence[str]) -> None:
        """Reads the names and types of the columns.

        Raises:
          RecordingError: it is no Parquet file, or a column that must be there is not.
          MissingExtraError: the extra "parquet" is not installed.
          OSError: it cannot be opened.
        """
        self._arrow = extras.load("pyarrow", extra="parquet")
        parquet = extras.load("pyarrow.parquet", extra="parquet")
        super().__init__(str(file))
        file.open("rb").close()  # What cannot be opened is told as it is of any file.
        try:
            self._file = parquet.ParquetFile(file)
        except self._arrow.ArrowException as error:
            raise RecordingError(
                f"{file}: is not a Parquet file, or cut off: {ended(error)} Write it again, or "
                "give it the suffix of what it is."
            ) from error
        schema = self._file.schema_arrow
        self.names = tuple(schema.names)
        self.length = self.expected_length = self._file.metadata.num_rows
        if missing := [name for name in wanted if name not in self.names]:
            raise not_named(str(file), "column", missing, self.names)
        types = self._arrow.types
        self.time_columns = {
            field.name: field.type.unit
            for field in schema
            if types.is_timestamp(field.type) or types.is_duration(field.type)
        }

    def sample(self, column: int) -> list[Any]:
        for batch in self._batches([column], SAMPLE_ROWS):
            return list(self._times(batch, self.names[column])[:SAMPLE_ROWS])
        return []

    def batches(self, chosen: Chosen) -> Iterator[Batch]:
        of_rows = (chosen.time, chosen.label, chosen.recording)
        others = [column for column in of_rows if column is not None]
        row = 1
        for batch in self._batches([*chosen.sensors, *others], _BATCH_ROWS):
            columns = [self._numbers(batch, self.names[column]) for column in chosen.sensors]
            yield Batch(
                range(row, row + len(batch)),
                np.stack(columns, axis=1),
                None if chosen.time is None else self._times(batch, self.names[chosen.time]),
                self._labels(batch, chosen.label),
                names=self._labels(batch, chosen.recording),
            )
            row += len(batch)

    def _batches(self, columns: Sequence[int], size: int) -> Iterator[Any]:
        names = list(dict.fromkeys(self.names[column] for column in columns))
        try:
            yield from self._file.iter_batches(size, columns=names)
        except (self._arrow.ArrowException, OSError) as error:
            raise RecordingError(f"{self.source}: is damaged: {ended(error)}") from error

    def _numbers(self, batch: Any, name: str) -> NDArray[np.float64]:
        """Returns a column of numbers; NaN where it is null."""
        column = batch.column(name)
        types = self._arrow.types
        is_number = (
            types.is_integer(column.type)
            or types.is_floating(column.type)
            or types.is_boolean(column.type)
            or types.is_decimal(column.type)
            or types.is_null(column.type)
        )
        if not is_number:
            raise RecordingError(
                f"{self.source}: column {name!r}: has the type {column.type}, expected numbers; "
                "write it as numbers, or name another column (--source, --time)."
            )
        # The cast of a whole number that float64 does not hold rounds it, as any reading is.
        floats = column.cast(self._arrow.float64(), safe=False)
        return np.asarray(floats.to_numpy(zero_copy_only=False), np.float64)

    def _times(self, batch: Any, name: str) -> Any:
        """Returns times: whole numbers or floats as they are, or texts; NaN where null."""
        column, types = batch.column(name), self._arrow.types
        if types.is_timestamp(column.type) or types.is_duration(column.type):
            column = column.cast(self._arrow.int64())
        if types.is_integer(column.type) and not column.null_count:
            return column.to_numpy(zero_copy_only=False)
        if types.is_string(column.type) or types.is_large_string(column.type):
            return ["" if text is None else text for text in column.to_pylist()]
        return self._numbers(batch, name)

    def _labels(self, batch: Any, place: int | None) -> Any:
        if place is None:
            return None
        name = self.names[place]
        column, types = batch.column(name), self._arrow.types
        if types.is_string(column.type) or types.is_large_string(column.type):
            return column.to_pylist()
        if types.is_dictionary(column.type):
            return column.to_pylist()
        return self._numbers(batch, name)

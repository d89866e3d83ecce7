"""Recordings as they are read: in order, block by block, in memory that does not grow.

for block in open_recording("drive.csv", interface.sensors).blocks():
    ...
"""

from __future__ import annotations

import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tickcell.model.recording import arrays, labels, text, times
from tickcell.model.recording.arrays import ArraysTable
from tickcell.model.recording.blocks import Block, Gaps
from tickcell.model.recording.delimited import DelimitedTable
from tickcell.model.recording.errors import RecordingError
from tickcell.model.recording.json_lines import JsonLinesTable
from tickcell.model.recording.layout import NO_TIMES, Layout
from tickcell.model.recording.parquet import ParquetTable
from tickcell.model.recording.resampling import Resampling
from tickcell.model.recording.table import Batch, Chosen, Table, listed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.model.interface import Sensor

STANDARD_INPUT = "-"

_IGNORED_NAMES = 12


class Reader:
    """One file, or standard input, as it is read; its blocks can be had once.

    Attributes:
      name: what to call it, such as the file's name.
      sensor_names: the F names, in the order of the readings in a frame.
      file_rate_hz: of the file's frames, judged by the first rows; NaN where one row does not
        tell. It is the one that was expected where there are no times, and on standard input.
      rate_hz: of the frames as they are given.
      has_times: whether the file has times.
      label: the column of labels that was looked for; None if none was.
      has_labels: whether it has labels.
      one_label: whether each recording in it has one label, repeated over its frames.
      length: the number of frames; None where only reading all of them would tell.
      expected_length: about how many there are, where that can be told.
      is_live: whether frames come as they arrive.
      ignored: the columns that are not used.
    """

    def __init__(
        self,
        table: Table,
        sensor_names: Sequence[str],
        layout: Layout,
        *,
        rate_hz: float | None = None,
        to_hz: float | None = None,
        dropouts: bool = False,
    ) -> None:
        """Judges a table by its first rows.

        Args:
          table: to be read.
          sensor_names: of the readings of a frame, in its order.
          layout: what is known of the file.
          rate_hz: the rate of a file that has no times, and the one to expect of others.
          to_hz: the rate to bring the frames to; None keeps theirs.
          dropouts: whether a reading may be missing or not finite; it is NaN in its frame.

        Raises:
          RecordingError: the table has no rate, or its columns are not all told apart.
        """
        self._table = table
        self._dropouts = dropouts
        self.name = pathlib.PurePath(table.source).name
        self.sensor_names = tuple(sensor_names)
        self.is_live = table.is_live
        self._columns = [layout.source(name) for name in self.sensor_names]
        label = layout.label and (table.label_column or layout.label)
        self.label = label
        taken = [*self._columns, *([label] if label else [])]
        self._time = times.find(table, layout, taken, rate_hz)
        self._chosen = self._choose(label)
        self.one_label = table.one_label
        self.has_labels = self._chosen.label is not None
        self.has_times = self._time is not None
        self.file_rate_hz = self.rate_hz = self._rate(rate_hz)
        self.length, self.expected_length = table.length, table.expected_length
        self._resampling = self._resample(to_hz)
        self.ignored = tuple(
            name
            for index, name in enumerate(table.names)
            if name and index not in (*self._chosen.sensors, self._chosen.time, self._chosen.label)
        )
        self._is_time_ignored = layout.time == NO_TIMES
        on_gap = layout.on_gap or ("keep" if self.is_live else "raise")
        period_s = None if self.is_live or np.isnan(self.file_rate_hz) else 1 / self.file_rate_hz
        self._gaps = Gaps(table.source, table.row, period_s, layout.max_gap, on_gap)

    def blocks(
        self, mend: Callable[[Iterator[Block]], Iterator[Block]] | None = None
    ) -> Iterator[Block]:
        """Yields the frames, once.

        Args:
          mend: replaces what dropped out of the frames, before they are brought to another
            rate.

        Raises:
          RecordingError: a row cannot be read; the frames before it have been yielded.
        """
        blocks = self._blocks()
        if self.has_times:
            blocks = self._gaps.check(blocks)
        if mend is not None:
            blocks = mend(blocks)
        return blocks if self._resampling is None else self._resampling.blocks(blocks)

    def notes(self) -> Iterator[str]:
        """Yields what is assumed of the file, and what of it is ignored, as sentences."""
        if self._time is not None:
            is_known = not self.is_live and not np.isnan(self.file_rate_hz)
            yield self._time.note(self.file_rate_hz if is_known else None)
        else:
            why = "ignored" if self._is_time_ignored else "none found"
            yield f"time: {why}; taken to be {self.file_rate_hz:g} Hz, evenly"
        if self._resampling is not None:
            yield self._resampling.note()
        if self.ignored:
            yield f"ignores {_columns(self.ignored)}"

    def closing_notes(self) -> Iterator[str]:
        """Yields what there was to tell of the rows, once they are read."""
        yield from self._table.notes()
        yield from self._gaps.notes()

    def _choose(self, label: str | None) -> Chosen:
        names = self._table.names
        time = None if self._time is None else self._time.place
        has_label = label is not None and label in names
        wanted = [*self._columns, *([label] if has_label and label is not None else [])]
        for name in [*wanted, *([self._time.name] if self._time else [])]:
            if names.count(name) > 1:
                raise RecordingError(
                    f"{self._table.source}: {self._table.row} 1: {names.count(name)} columns are "
                    f"named {name!r}, expected one."
                )
        return Chosen(
            [names.index(name) for name in self._columns],
            time,
            names.index(label) if has_label and label is not None else None,
        )

    def _rate(self, expected_hz: float | None) -> float:
        if expected_hz is not None and not 0 < expected_hz < float("inf"):
            raise RecordingError(
                f"{self._table.source}: got the rate {expected_hz} Hz, expected a number above 0."
            )
        if self._time is None:
            if expected_hz is None:
                raise RecordingError(
                    f"{self._table.source}: has no times (such as a column 't'); name their "
                    "column with --time, or its rate in Hz."
                )
            return expected_hz
        if self.is_live:
            return float("nan") if expected_hz is None else expected_hz
        sample = self._time.seconds(self._table.sample(self._time.place))
        rate_hz = times.rate_hz(sample)
        return float("nan") if rate_hz is None else rate_hz

    def _resample(self, to_hz: float | None) -> Resampling | None:
        """Returns how the frames are brought to another rate, if they are."""
        if to_hz is None:
            return None
        is_unit_known = self._time is None or not self._time.is_guessed
        resampling = Resampling.checked(
            self.name, self.file_rate_hz, to_hz, is_unit_known=is_unit_known
        )
        if not resampling.is_needed:
            return None
        self.rate_hz, self.length = to_hz, None
        if self.expected_length is not None:
            self.expected_length = round(self.expected_length * to_hz / self.file_rate_hz)
        return resampling

    def _blocks(self) -> Iterator[Block]:
        count, recording = 0, 0
        for batch in self._table.batches(self._chosen):
            if batch.recording != recording:
                count, recording = 0, batch.recording
            yield from self._block(batch, count)
            count += len(batch.rows)
        if not count:
            raise RecordingError(
                f"{self._table.source}: has no frames, only the names of its columns."
            )

    def _block(self, batch: Batch, count: int) -> Iterator[Block]:
        """Yields the frames of a batch; where one is wrong, those before it, and raises."""
        with np.errstate(over="ignore"):  # What is too large becomes infinite.
            frames = batch.readings.astype(np.float32)
        is_finite = np.isfinite(frames)
        if self._dropouts:
            frames[~is_finite] = np.nan
            is_finite[:] = True
        seconds = self._seconds(batch, count)
        found = None if batch.labels is None else labels.binary(batch.labels)
        is_good = is_finite.all(axis=1) & np.isfinite(seconds)
        if found is not None:
            is_good &= np.isfinite(found)
        block = Block(batch.recording, batch.rows, frames, seconds, found)
        good_count = len(is_good) if is_good.all() else int(is_good.argmin())
        if good_count:
            yield block.part(0, good_count)
        if good_count < len(is_good):
            raise self._wrong(batch, block, good_count)

    def _seconds(self, batch: Batch, count: int) -> NDArray[np.float64]:
        if self._time is None or batch.times is None:
            return np.asarray(np.arange(count, count + len(batch.rows)) / self.file_rate_hz)
        return self._time.seconds(batch.times)

    def _wrong(self, batch: Batch, block: Block, index: int) -> RecordingError:
        """Says what is wrong in a row."""
        table, chosen = self._table, self._chosen
        place = f"{table.source}: {table.row} {batch.rows[index]}"
        is_finite = np.isfinite(block.frames[index])
        if not self._dropouts and not is_finite.all():
            at = int(is_finite.argmin())
            name, reading = table.names[chosen.sensors[at]], batch.readings[index, at]
            got = "nothing (an empty cell, or NaN)" if np.isnan(reading) else f"{reading:g}"
            return RecordingError(
                f"{place}, column {name!r}: got {got}, expected a finite float32; --on-dropout "
                "says what to do with readings that drop out."
            )
        if not np.isfinite(block.times[index]) and self._time and batch.times is not None:
            return RecordingError(
                f"{place}, column {self._time.name!r}: got {_shown(batch.times[index])}, expected "
                "a finite time."
            )
        assert batch.labels is not None
        assert chosen.label is not None
        return RecordingError(
            f"{place}, column {table.names[chosen.label]!r}: got {_shown(batch.labels[index])}, "
            "expected 0 or 1."
        )


def open_recording(
    path: str | os.PathLike[str],
    sensors: Sequence[Sensor],
    layout: Layout | None = None,
    *,
    rate_hz: float | None = None,
    to_hz: float | None = None,
    dropouts: bool = False,
    sequences: bool = False,
) -> Reader:
    """Opens a recording, and judges it by its first rows.

    Args:
      path: of the file: delimited text, JSON lines, Parquet, NPY, NPZ, a ROS bag or MCAP. "-"
        is delimited text or JSON lines on standard input, given row by row as they come.
      sensors: whose readings make a frame, in its order.
      layout: what is known of the file.
      rate_hz: the rate of a file that has no times, and the one to expect of others.
      to_hz: the rate to bring the frames to; None keeps theirs.
      dropouts: whether a reading may be missing (an empty cell, null, NaN or infinite); it is
        NaN in its frame.
      sequences: whether an NPY or NPZ may hold `[N, T, F]`, N recordings.

    Raises:
      RecordingError: the file cannot be read, or has something in it that is no recording.
      MissingExtraError: an extra that reads such files is not installed.
    """
    layout = layout or Layout()
    wanted = [layout.source(sensor.name) for sensor in sensors]
    if unknown := [name for name in layout.sources if name not in {s.name for s in sensors}]:
        raise RecordingError(
            f"--source: no sensor is named {listed(unknown)}; the sensors are "
            f"{listed([sensor.name for sensor in sensors])}."
        )
    try:
        table = _table(path, sensors, wanted, layout, dropouts=dropouts, sequences=sequences)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}.") from error
    names = [sensor.name for sensor in sensors]
    return Reader(table, names, layout, rate_hz=rate_hz, to_hz=to_hz, dropouts=dropouts)


def _table(
    path: str | os.PathLike[str],
    sensors: Sequence[Sensor],
    wanted: Sequence[str],
    layout: Layout,
    *,
    dropouts: bool,
    sequences: bool,
) -> Table:
    if str(path) == STANDARD_INPUT:
        return of_lines(sys.stdin, wanted, layout, source="standard input", is_live=True)
    file = pathlib.Path(path)
    suffix = file.suffix.lower()
    if suffix in (".npy", ".npz"):
        found = arrays.read(file, sensors, dropouts=dropouts, sequences=sequences)
        return ArraysTable(str(file), found, wanted)
    if suffix == ".parquet":
        return ParquetTable(file, wanted)
    size = text.size_of_file(file)
    return of_lines(text.of_file(file), wanted, layout, source=str(file), size=size)


def of_lines(
    lines: Iterable[str],
    wanted: Sequence[str],
    layout: Layout,
    *,
    source: str,
    is_live: bool = False,
    size: int | None = None,
) -> Table:
    """Returns the table of a text: of JSON lines if its first line begins an object.

    Args:
      lines: of the text.
      wanted: the columns that must be there.
      layout: what is known of it.
      source: what to call it in messages.
      is_live: whether to give each row before the next line is read.
      size: about how many characters the text has, where that is known.

    Raises:
      RecordingError: there is no row, or a column that must be there is not.
    """
    lines = text.checked(lines, source)
    blank = []
    for first in lines:
        blank.append(first)
        if first.strip("\ufeff \t\r\n"):
            break
    is_json = bool(blank) and blank[-1].lstrip("\ufeff \t").startswith("{")
    lines = itertools.chain(blank, lines)
    kind = JsonLinesTable if is_json else DelimitedTable
    return kind(lines, wanted, layout, source=source, is_live=is_live, size=size)


def _columns(names: Sequence[str]) -> str:
    """Returns column names for a sentence: all, or the first ones and their number."""
    if len(names) <= _IGNORED_NAMES:
        return f"the columns {', '.join(names)}"
    return f"{len(names)} columns, such as {', '.join(names[: _IGNORED_NAMES // 4])}"


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else f"{value}"

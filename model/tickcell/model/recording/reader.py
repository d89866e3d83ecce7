"""Recordings as they are read: in order, block by block, in memory that does not grow.

for block in open_recording("drive.csv", interface.sensors).blocks():
    ...
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model.recording import columns, times
from tickcell.model.recording.blocks import Block, Gaps
from tickcell.model.recording.errors import RecordingError
from tickcell.model.recording.labels import Labelling
from tickcell.model.recording.layout import NO_TIMES, Layout
from tickcell.model.recording.resampling import Resampling
from tickcell.model.recording.table import Batch, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IGNORED_NAMES = 12
# How far the rate of live rows may be from the expected one, while their unit is assumed.
_FAR = 50.0


class Reader:
    """One file, or standard input, as it is read; its blocks can be had once.

    Attributes:
      name: what to call it, such as the file's name.
      sensor_names: the F names, in the order of the readings in a frame.
      file_rate_hz: of the file's frames, judged by the first rows; NaN where one row does not
        tell. It is the one that was expected where there are no times, and on standard input.
      rate_hz: of the frames as they are given.
      has_times: whether the file has times.
      label_name: the column of labels; None where there is none, or in arrays.
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
        labelled: bool = False,
        labelling: Labelling | None = None,
    ) -> None:
        """Judges a table by its first rows.

        Args:
          table: to be read.
          sensor_names: of the readings of a frame, in its order.
          layout: what is known of the file.
          rate_hz: the rate of a file that has no times, and the one to expect of others.
          to_hz: the rate to bring the frames to; None keeps theirs.
          dropouts: whether a reading may be missing or not finite; it is NaN in its frame.
          labelled: whether there must be labels.
          labelling: what the labels are; 0 and 1 without it.

        Raises:
          RecordingError: the table has no rate, or its columns are not all distinct.
        """
        self._table = table
        self._dropouts = dropouts
        self._labelling = labelling or Labelling()
        self.name = pathlib.PurePath(table.source).name
        self.sensor_names = tuple(sensor_names)
        self.is_live = table.is_live
        self._columns = columns.find(table, layout, self.sensor_names, rate_hz, labelled=labelled)
        self._time, self._chosen = self._columns.time, self._columns.chosen
        self._expected_hz = rate_hz
        self.label_name = self._columns.label_name
        self.ignored = self._columns.ignored
        self.one_label = table.one_label
        self.has_labels = self._chosen.label is not None
        self.has_times = self._time is not None
        self.file_rate_hz = self.rate_hz = self._rate(rate_hz)
        self.length, self.expected_length = table.length, table.expected_length
        self._to_hz = to_hz
        self._resampling = self._resample(to_hz)
        self._is_time_ignored = layout.time == NO_TIMES
        on_gap = layout.on_gap or ("keep" if self.is_live else "raise")
        period_s = None if self.is_live or np.isnan(self.file_rate_hz) else 1 / self.file_rate_hz
        self._last_s = float("nan")
        self._gaps = Gaps(table.source, table.row, period_s, layout.max_gap, on_gap)

    def blocks(
        self, mend: Callable[[Iterator[Block]], Iterator[Block]] | None = None
    ) -> Iterator[Block]:
        """Yields the frames, once.

        Args:
          mend: replaces what dropped out of the frames, before they are resampled to another
            rate.

        Raises:
          RecordingError: a row cannot be read; the frames before it have been yielded.
        """
        blocks = self._blocks()
        if self.has_times:
            blocks = self._gaps.check(blocks)
        if mend is not None:
            blocks = mend(blocks)
        if self._to_hz is not None and np.isnan(self.file_rate_hz):
            return self._of_no_rate(blocks)
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
        if self._columns.is_label_guessed:
            yield f"labels are in the column {self.label_name}"
        if self.ignored:
            yield f"ignores {_counted(self.ignored, self._table.column)}"

    def closing_notes(self) -> Iterator[str]:
        """Yields what there was to tell of the rows, once they are read."""
        yield from self._table.notes()
        yield from self._gaps.notes()

    def label_values(self) -> Iterator[Any]:
        """Yields the labels as the file has them, in place of the blocks.

        Raises:
          RecordingError: a row cannot be read.
        """
        for batch in self._table.batches(self._chosen):
            yield from () if batch.labels is None else batch.labels

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

    def _of_no_rate(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Refuses frames that cannot be resampled to a rate; their rows may say better why."""
        for _ in blocks:
            yield from ()
        raise RecordingError(
            f"{self.name}: got 1 frame, expected 2 or more to resample them to {self._to_hz:g} Hz."
        )

    def _resample(self, to_hz: float | None) -> Resampling | None:
        """Returns how the frames are resampled to another rate, if they are."""
        if to_hz is None or np.isnan(self.file_rate_hz):
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
        batches = self._table.batches(self._chosen)
        if self._chosen.recording is not None:
            batches = self._parted(batches)
        for batch in batches:
            if batch.recording != recording:
                count, recording = 0, batch.recording
            yield from self._block(batch, count)
            count += len(batch.rows)
        if not count:
            raise RecordingError(
                f"{self._table.source}: has no frames, only the names of its columns."
            )

    def _parted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yields batches of one recording each, numbered as they come.

        Raises:
          RecordingError: rows of a recording come after those of another.
        """
        places: dict[Any, int] = {}
        last: Any = None
        for batch in batches:
            assert batch.names is not None
            names = [*batch.names]
            start = 0
            for name, group in itertools.groupby(names):
                stop = start + len([*group])
                if name in places and name != last:
                    raise RecordingError(
                        f"{self._table.source}: {self._table.row} {batch.rows[start]}: is of the "
                        f"recording {_shown(name)} again, after those of {_shown(last)}; sort the "
                        "rows by the column of recordings (--recording-column)."
                    )
                last, number = name, places.setdefault(name, len(places))
                yield batch.part(start, stop)._replace(recording=number)
                start = stop

    def _block(self, batch: Batch, count: int) -> Iterator[Block]:
        """Yields the frames of a batch; where one is wrong, those before it, and raises."""
        with np.errstate(over="ignore"):  # What is too large becomes infinite.
            frames = batch.readings.astype(np.float32)
        is_finite = np.isfinite(frames)
        if self._dropouts:
            frames[~is_finite] = np.nan
            is_finite[:] = True
        seconds = self._seconds(batch, count)
        found = None if batch.labels is None else self._labelling.encode(batch.labels)
        is_good = is_finite.all(axis=1) & np.isfinite(seconds)
        if found is not None:
            is_good &= ~np.isinf(found)
        block = Block(batch.recording, batch.rows, frames, seconds, found)
        good_count = len(is_good) if is_good.all() else int(is_good.argmin())
        if good_count:
            yield block.part(0, good_count)
        if good_count < len(is_good):
            raise self._wrong(batch, block, good_count)

    def _seconds(self, batch: Batch, count: int) -> NDArray[np.float64]:
        """Returns the times of a batch, of which `count` rows came before."""
        if self._time is None or batch.times is None:
            return np.asarray(np.arange(count, count + len(batch.rows)) / self.file_rate_hz)
        seconds = self._time.seconds(batch.times)
        if self.is_live and count == 1:
            self._doubt(float(seconds[0]) - self._last_s, batch.rows[0])
        self._last_s = float(seconds[-1])
        return seconds

    def _doubt(self, spacing_s: float, row: int) -> None:
        """Refuses a unit that was assumed, where live rows come at a rate that it cannot mean."""
        hz = self._expected_hz
        if hz is None or self._time is None or not self._time.is_guessed or spacing_s <= 0:
            return
        if not 1 / _FAR < spacing_s * hz < _FAR:
            raise RecordingError(
                f"{self._table.source}: {self._table.row} {row}: comes {spacing_s:.6g} s after the "
                f"one before, and {hz:g} Hz are expected; name the unit of the times with "
                "--time-unit."
            )

    def _wrong(self, batch: Batch, block: Block, index: int) -> RecordingError:
        """Says what is wrong in a row."""
        table, chosen = self._table, self._chosen
        of_sequence = f"sequence {batch.recording}, " if table.has_sequences else ""
        place = f"{table.source}: {of_sequence}{table.row} {batch.rows[index]}"
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
                "a finite time; remove the row, or ignore all times with --time none."
            )
        assert batch.labels is not None
        assert chosen.label is not None
        way_out = "; --label names another column" if self.label_name else ""
        return RecordingError(
            f"{place}, column {table.names[chosen.label]!r}: got {_shown(batch.labels[index])}, "
            f"expected {self._labelling.expected}{way_out}."
        )


def _counted(names: Sequence[str], kind: str) -> str:
    """Returns the names of columns for a sentence: all, or the first ones and their number."""
    if len(names) <= _IGNORED_NAMES:
        return f"the {kind}s {', '.join(names)}"
    return f"{len(names)} {kind}s, such as {', '.join(names[: _IGNORED_NAMES // 4])}"


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else f"{value}"

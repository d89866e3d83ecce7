"""Frames in time order, with the time of each and, for training, its label.

for frame in recording.read("drive.csv", interface.sensors):
    ...
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import pathlib
import sys
from typing import IO, TYPE_CHECKING

import numpy as np

from tickcell.model import arrays, extras
from tickcell.model.resampling import Resampler
from tickcell.model.rows import TIME, RecordingError, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tickcell.model.interface import Sensor

__all__ = ["Recording", "RecordingError", "read", "read_all", "resample", "write_csv"]

STANDARD_INPUT = "-"

_ARRAYS = (".npy", ".npz")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recording; iterating over it gives its frames.

    Attributes:
      frames: `[T, F]` float32, in the sensors' own units.
      times: `[T]` float64, seconds, strictly increasing.
      labels: `[T]` float32, each 0 or 1; or None.
      sensor_names: the F names, in the order of the readings in a frame.
      name: what to call it, such as its file's name.
      ignored: columns of the file that no sensor asked for.
      label_name: the column of the labels; None where they have none, as in arrays.
      one_label: whether the label is one for the whole recording, repeated over its frames.
    """

    frames: NDArray[np.float32]
    times: NDArray[np.float64]
    labels: NDArray[np.float32] | None
    sensor_names: tuple[str, ...]
    name: str
    ignored: tuple[str, ...] = ()
    label_name: str | None = None
    one_label: bool = False

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return iter(self.frames)

    @property
    def rate_hz(self) -> float:
        """The median rate of frames; NaN where there are fewer than two."""
        if len(self.times) < 2:
            return float("nan")
        return float(1 / np.median(np.diff(self.times)))


def read(
    path: str | os.PathLike[str],
    sensors: Sequence[Sensor],
    *,
    rate_hz: float | None = None,
    label: str | None = None,
    dropouts: bool = False,
) -> Recording:
    """Reads a recording: CSV, Parquet, NPY (`[T, F]`) or NPZ (frames, maybe times and labels).

    Args:
      path: of the file; its ending tells the format. "-" is a CSV on standard input.
      sensors: whose readings make a frame, in its order.
      rate_hz: the rate of a file that has no times.
      label: the column of a CSV or Parquet file that holds the labels; None for none.
      dropouts: whether a reading may be missing (an empty cell, NaN or infinite); it is NaN
        in its frame.

    Raises:
      RecordingError: the file cannot be read, or has something in it that is no recording.
      MissingExtraError: it is a Parquet file, and the extra "parquet" is not installed.
    """
    if str(path) == STANDARD_INPUT:
        return _read_csv(sys.stdin, "standard input", sensors, rate_hz, label, dropouts)
    file = pathlib.Path(path)
    try:
        if file.suffix.lower() in _ARRAYS:
            found = arrays.read(file, sensors, dropouts=dropouts)
            return _recordings(found, sensors, file, rate_hz)[0]
        if file.suffix.lower() == ".parquet":
            rows = io.StringIO(_parquet_as_csv(file))
            return _read_csv(rows, str(file), sensors, rate_hz, label, dropouts)
        with file.open(encoding="utf-8", newline="") as lines:
            return _read_csv(lines, str(file), sensors, rate_hz, label, dropouts)
    except OSError as error:
        raise RecordingError(f"{file}: cannot be read: {error.strerror}.") from error


def read_all(
    path: str | os.PathLike[str],
    sensors: Sequence[Sensor],
    *,
    rate_hz: float | None = None,
    label: str | None = None,
) -> list[Recording]:
    """Reads a recording, or an NPY or NPZ of N sequences `[N, T, F]` as N recordings.

    The N have the file's name, its times, and labels `[N]` or `[N, T]`. See `read` for the rest.
    """
    file = pathlib.Path(path)
    if file.suffix.lower() not in _ARRAYS:
        return [read(path, sensors, rate_hz=rate_hz, label=label)]
    try:
        found = arrays.read(file, sensors, dropouts=False, sequences=True)
    except OSError as error:
        raise RecordingError(f"{file}: cannot be read: {error.strerror}.") from error
    return _recordings(found, sensors, file, rate_hz)


def resample(recording: Recording, rate_hz: float) -> Recording:
    """Returns the recording at another rate, just as `Resampler` gives it frame by frame.

    A label is that of the frame at or before it.

    Raises:
      RecordingError: the recording is too short to have a rate.
    """
    if len(recording) < 2:
        raise RecordingError(
            f"{recording.name}: got {len(recording)} frames, expected 2 or more to resample."
        )
    resampler = Resampler(recording.rate_hz, rate_hz)
    timed = []
    for time, frame in zip(recording.times.tolist(), recording.frames, strict=True):
        timed += resampler.push(time, frame)
    timed += resampler.flush()
    times = np.array([time for time, _ in timed])
    labels = recording.labels
    if labels is not None:
        # A microsecond: a frame on the very time must not be missed by rounding.
        labels = labels[np.searchsorted(recording.times, times + 1e-6, side="right") - 1]
    frames = np.stack([frame for _, frame in timed])
    return dataclasses.replace(recording, frames=frames, times=times, labels=labels)


def write_csv(recording: Recording, file: IO[str]) -> None:
    """Writes a recording as a CSV that reads back with the very same frames."""
    writer = csv.writer(file, lineterminator="\n")
    labels = [] if recording.labels is None else [recording.label_name or "label"]
    writer.writerow([TIME, *recording.sensor_names, *labels])
    for index, frame in enumerate(recording.frames):
        row: list[object] = [float(recording.times[index]), *map(str, frame)]
        if recording.labels is not None:
            row.append(int(recording.labels[index]))
        writer.writerow(row)


def _read_csv(
    lines: IO[str],
    source: str,
    sensors: Sequence[Sensor],
    rate_hz: float | None,
    label: str | None,
    dropouts: bool,
) -> Recording:
    rows = Rows(lines, sensors, source=source, label=label, dropouts=dropouts)
    table = list(rows)
    if not table:
        raise RecordingError(f"{source}: has no frames, only the names of its columns.")
    times = labels = None
    if rows.columns.time is not None:
        times = np.array([row.time for row in table], np.float64)
    if rows.columns.label is not None:
        labels = np.array([row.label for row in table], np.float32)
    return Recording(
        frames=np.stack([row.frame for row in table]),
        times=_even_times(source, len(table), rate_hz) if times is None else times,
        labels=labels,
        sensor_names=tuple(sensor.name for sensor in sensors),
        name=pathlib.Path(source).name,
        ignored=rows.columns.ignored,
        label_name=None if labels is None else label,
    )


def _parquet_as_csv(file: pathlib.Path) -> str:
    """Returns a Parquet file's table as CSV, so that both are held to the same."""
    parquet = extras.load("pyarrow.parquet", extra="parquet")
    csv_ = extras.load("pyarrow.csv", extra="parquet")
    arrow = extras.load("pyarrow", extra="parquet")
    written = io.BytesIO()
    try:
        with file.open("rb") as opened:
            csv_.write_csv(parquet.read_table(opened), written)
    except arrow.ArrowException as error:
        raise RecordingError(f"{file}: is not a Parquet file of plain columns: {error}.") from error
    return written.getvalue().decode()


def _recordings(
    found: arrays.Arrays,
    sensors: Sequence[Sensor],
    file: pathlib.Path,
    rate_hz: float | None,
) -> list[Recording]:
    """Returns each sequence of a file as a recording, or its only one."""
    *_, step_count, sensor_count = found.frames.shape
    frames = found.frames.reshape(-1, step_count, sensor_count)
    labels = None if found.labels is None else found.labels.reshape(-1, step_count)
    times = found.times
    if times is None:
        times = _even_times(str(file), step_count, rate_hz)
    return [
        Recording(
            frames=sequence,
            times=times,
            labels=None if labels is None else labels[number],
            sensor_names=tuple(sensor.name for sensor in sensors),
            name=file.name,
            ignored=found.ignored,
            one_label=found.one_label,
        )
        for number, sequence in enumerate(frames)
    ]


def _even_times(source: str, count: int, rate_hz: float | None) -> NDArray[np.float64]:
    if rate_hz is None:
        raise RecordingError(f"{source}: has no times (a column {TIME!r}); name its rate in Hz.")
    if not 0 < rate_hz < float("inf"):
        raise RecordingError(f"{source}: got the rate {rate_hz} Hz, expected a number above 0.")
    return np.asarray(np.arange(count) / rate_hz)

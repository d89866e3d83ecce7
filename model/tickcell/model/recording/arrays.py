"""Recordings in NumPy's files: an NPY of frames, or an NPZ of frames, times and labels.

Frames are `[T, F]`, one recording, or `[N, T, F]`, N sequences of one length; labels are one
per frame, or one per sequence.
"""

from __future__ import annotations

import pathlib
import zipfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tickcell.model.recording.errors import RecordingError
from tickcell.model.recording.table import SAMPLE_ROWS, Batch, Chosen, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.model.interface import Sensor


_BATCH_ROWS = 8192


class Arrays(NamedTuple):
    """What a file holds: one recording, or N sequences of the same length T.

    Attributes:
      frames: `[T, F]` or `[N, T, F]` float32; NaN where a reading dropped out.
      times: `[T]` float64, seconds, increasing, the same for all sequences; or None.
      labels: `[T]` or `[N, T]` numbers or texts; or None.
      one_label: whether the file has one label per sequence, repeated here over its frames.
      ignored: the names of other arrays.
    """

    frames: NDArray[np.float32]
    times: NDArray[np.float64] | None
    labels: NDArray[Any] | None
    one_label: bool
    ignored: tuple[str, ...]


class ArraysTable(Table):
    """The rows of a file of arrays: a column per sensor, one of times and one of labels."""

    row = "frame"

    def __init__(self, source: str, found: Arrays, wanted: Sequence[str]) -> None:
        """Takes what a file holds.

        Args:
          source: what to call the file in messages.
          found: in it.
          wanted: what to call the columns of the sensors.
        """
        super().__init__(source)
        self._arrays = found
        self.has_sequences = found.frames.ndim == 3
        has_times, self.one_label = found.times is not None, found.one_label
        self.label_column = None if found.labels is None else "labels"
        labels = [] if found.labels is None else ["labels"]
        self.names = (*wanted, *(["times"] if has_times else []), *labels)
        self.unread = found.ignored
        self.length = self.expected_length = found.frames.size // len(wanted)

    def sample(self, column: int) -> list[Any]:
        times = self._arrays.times
        if times is None or self.names[column] != "times":
            return []
        return list(times[:SAMPLE_ROWS])

    def batches(self, chosen: Chosen) -> Iterator[Batch]:
        *_, step_count, sensor_count = self._arrays.frames.shape
        frames = self._arrays.frames.reshape(-1, step_count, sensor_count)
        labels = self._arrays.labels
        if labels is not None:
            labels = labels.reshape(-1, step_count)
        times = None if chosen.time is None else self._arrays.times
        for number, sequence in enumerate(frames):
            for start in range(0, step_count, _BATCH_ROWS):
                rows = slice(start, min(start + _BATCH_ROWS, step_count))
                has_labels = labels is not None and chosen.label is not None
                yield Batch(
                    range(rows.start, rows.stop),
                    sequence[rows].astype(np.float64),
                    None if times is None else times[rows],
                    labels[number, rows] if has_labels and labels is not None else None,
                    number,
                )


def read(
    file: pathlib.Path, sensors: Sequence[Sensor], *, dropouts: bool, sequences: bool = False
) -> Arrays:
    """Reads an NPY or NPZ file.

    Args:
      file: to be read.
      sensors: the readings of a frame, in its order.
      dropouts: whether a reading may be NaN or infinite.
      sequences: whether it may hold `[N, T, F]`, and not only `[T, F]`.

    Raises:
      RecordingError: the file has something in it that is no recording.
      OSError: the file cannot be opened.
    """
    source, found = str(file), _load(file)
    if "frames" not in found:
        raise RecordingError(f"{source}: has no array named 'frames', only {sorted(found)}.")
    frames = _frames(source, found["frames"], len(sensors), sequences=sequences)
    _check_readings(source, frames, sensors, dropouts=dropouts)
    *_, step_count, _ = frames.shape
    times = labels = None
    one_label = False
    if "times" in found:
        times = _numbers(source, "times", found["times"], [(step_count,)], np.float64)
        _check_times(source, times)
    if "labels" in found:
        labels, one_label = _labels(source, found["labels"], frames.shape[:-1])
    others = sorted({*found} - {"frames", "times", "labels"})
    return Arrays(frames, times, labels, one_label, tuple(others))


def _load(file: pathlib.Path) -> dict[str, NDArray[Any]]:
    """Returns the arrays of an NPZ by name, or the one of an NPY as 'frames'."""
    try:
        with file.open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"frames": loaded}
            return {name: _plain(loaded, name) for name in loaded.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RecordingError(f"{file}: is not a file of plain arrays: {error}.") from error


def _plain(loaded: Any, name: str) -> NDArray[Any]:
    try:
        return np.asarray(loaded[name])
    except ValueError as error:
        # What is ragged is saved as an array of Python objects, which are never loaded.
        raise ValueError(
            f"{error} ({name}); sequences of different lengths need a file each"
        ) from error


def _frames(
    source: str, array: NDArray[Any], sensor_count: int, *, sequences: bool
) -> NDArray[np.float32]:
    """Returns `[T, F]` or, where sequences may come, `[N, T, F]`, none of the three being 0."""
    if array.ndim == 3 and not sequences:
        raise RecordingError(
            f"{source}: frames: got {list(array.shape)}, a set of sequences, expected one "
            f"recording [T, {sensor_count}]; only training and evaluation take a set."
        )
    shapes = [("T", sensor_count), ("N", "T", sensor_count)]
    frames = _numbers(source, "frames", array, shapes[: 2 if sequences else 1], np.float32)
    if not frames.size:
        if frames.ndim == 2:
            raise RecordingError(f"{source}: has no frames.")
        raise RecordingError(
            f"{source}: frames: got {list(frames.shape)}, expected 1 or more sequences of 1 or "
            "more frames."
        )
    return frames


def _labels(source: str, array: NDArray[Any], shape: tuple[int, ...]) -> tuple[NDArray[Any], bool]:
    """Returns labels of the shape `[T]` or `[N, T]`, and whether they are one per sequence."""
    shapes: list[tuple[int | str, ...]] = [shape[:-1], (*shape[:-1], 1), shape]
    if array.dtype.kind == "U" and array.shape in shapes:
        labels = array
    else:
        labels = _numbers(source, "labels", array, shapes, np.float64)
    if labels.shape == shape:
        return labels, False
    return np.repeat(labels.reshape(*shape[:-1], 1), shape[-1], axis=-1), True


def _numbers(
    source: str,
    name: str,
    array: NDArray[Any],
    shapes: Sequence[tuple[int | str, ...]],
    dtype: Any,
) -> NDArray[Any]:
    """Returns a copy of an array in a type of floats, if it has numbers and one of the shapes.

    A shape is of sizes; a letter stands for any.
    """
    fits = any(
        array.ndim == len(shape)
        and all(
            isinstance(wanted, str) or wanted == size
            for wanted, size in zip(shape, array.shape, strict=True)
        )
        for shape in shapes
    )
    if not fits or array.dtype.kind not in "fiub":
        expected = " or ".join(f"[{', '.join(map(str, shape))}]" for shape in shapes)
        raise RecordingError(
            f"{source}: {name}: got {array.dtype} {list(array.shape)}, expected numbers {expected}."
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found there
        return array.astype(dtype)


def _check_times(source: str, times: NDArray[np.float64]) -> None:
    # Not "<= 0", which NaN would pass.
    wrong = np.flatnonzero(~(np.diff(times) > 0) | ~np.isfinite(times[1:]))
    if len(wrong) or not np.isfinite(times[0]):
        index = int(wrong[0]) + 1 if np.isfinite(times[0]) else 0
        raise RecordingError(
            f"{source}: times[{index}]: got {times[index]:g}, expected finite times that increase."
        )


def _check_readings(
    source: str, frames: NDArray[np.float32], sensors: Sequence[Sensor], *, dropouts: bool
) -> None:
    """Makes what dropped out NaN, where that is allowed."""
    dropped = ~np.isfinite(frames)
    if dropouts:
        frames[dropped] = np.nan
    elif dropped.any():
        index = np.argwhere(dropped)[0]
        raise RecordingError(
            f"{source}: frames[{_joined(index)}], {sensors[index[-1]].name!r}: got "
            f"{frames[tuple(index)]}, expected a finite float32."
        )


def _joined(index: NDArray[np.intp]) -> str:
    return ", ".join(map(str, index.tolist()))

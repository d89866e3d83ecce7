"""Recordings in NumPy's files: an NPY of frames, or an NPZ of frames, times and labels."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tickcell.model.rows import RecordingError

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tickcell.model.interface import Sensor


class Arrays(NamedTuple):
    """What a file holds.

    Attributes:
      frames: `[T, F]` float32; NaN where a reading dropped out.
      times: `[T]` float64, seconds, increasing; or None.
      labels: `[T]` float32, each 0 or 1; or None.
      ignored: the names of other arrays.
    """

    frames: NDArray[np.float32]
    times: NDArray[np.float64] | None
    labels: NDArray[np.float32] | None
    ignored: tuple[str, ...]


def read(file: pathlib.Path, sensors: Sequence[Sensor], *, dropouts: bool) -> Arrays:
    """Reads an NPY or NPZ file.

    Args:
      file: to be read.
      sensors: the readings of a frame, in its order.
      dropouts: whether a reading may be NaN or infinite.

    Raises:
      RecordingError: the file has something in it that is no recording.
      OSError: the file cannot be opened.
    """
    source, found = str(file), _load(file)
    if "frames" not in found:
        raise RecordingError(f"{source}: has no array named 'frames', only {sorted(found)}.")
    frames = _numbers(source, "frames", found["frames"], (None, len(sensors)), np.float32)
    if not len(frames):
        raise RecordingError(f"{source}: has no frames.")
    _check_readings(source, frames, sensors, dropouts=dropouts)
    times = labels = None
    if "times" in found:
        times = _numbers(source, "times", found["times"], (len(frames),), np.float64)
        _check_times(source, times)
    if "labels" in found:
        labels = _numbers(source, "labels", found["labels"], (len(frames),), np.float32)
        _check_labels(source, labels)
    return Arrays(frames, times, labels, tuple(sorted({*found} - {"frames", "times", "labels"})))


def _load(file: pathlib.Path) -> dict[str, NDArray[Any]]:
    """Returns the arrays of an NPZ by name, or the one of an NPY as 'frames'."""
    try:
        with file.open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"frames": loaded}
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RecordingError(f"{file}: is not a file of plain arrays: {error}.") from error


def _numbers(
    source: str, name: str, array: NDArray[Any], shape: tuple[int | None, ...], dtype: Any
) -> NDArray[Any]:
    """Returns a copy of an array in a type of floats, if it has numbers and the shape."""
    fits = array.ndim == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=False)
    )
    if not fits or array.dtype.kind not in "fiub":
        expected = ", ".join("T" if size is None else str(size) for size in shape)
        raise RecordingError(
            f"{source}: {name}: got {array.dtype} {list(array.shape)}, expected numbers "
            f"[{expected}]."
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


def _check_labels(source: str, labels: NDArray[np.float32]) -> None:
    wrong = np.flatnonzero((labels != 0) & (labels != 1))
    if len(wrong):
        raise RecordingError(
            f"{source}: labels[{wrong[0]}]: got {labels[wrong[0]]:g}, expected 0 or 1."
        )


def _check_readings(
    source: str, frames: NDArray[np.float32], sensors: Sequence[Sensor], *, dropouts: bool
) -> None:
    """Makes what dropped out NaN, where that is allowed."""
    dropped = ~np.isfinite(frames)
    if dropouts:
        frames[dropped] = np.nan
    elif dropped.any():
        step, sensor = (int(index) for index in np.argwhere(dropped)[0])
        raise RecordingError(
            f"{source}: frames[{step}, {sensor}], {sensors[sensor].name!r}: got "
            f"{frames[step, sensor]}, expected a finite float32."
        )

"""Whole recordings: all frames of a file, with the time of each and, for training, its label.

for frame in recording.read("drive.csv", interface.sensors):
    ...
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING

import numpy as np

from tickcell.model.recording.arrays import Arrays, ArraysTable
from tickcell.model.recording.blocks import Block
from tickcell.model.recording.errors import RecordingError
from tickcell.model.recording.labels import Labelling
from tickcell.model.recording.layout import Layout
from tickcell.model.recording.mending import Mending
from tickcell.model.recording.opening import open_recording
from tickcell.model.recording.reader import Reader
from tickcell.model.recording.resampling import Resampling
from tickcell.model.recording.times import rate_hz as _rate_hz

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.model.interface import Sensor

_TIME = "t"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recording; iterating over it gives its frames.

    Attributes:
      frames: `[T, F]` float32, in the sensors' own units.
      times: `[T]` float64, seconds, strictly increasing.
      labels: `[T]` float32, as a `Labelling` encodes them, NaN where there is none; or None.
      sensor_names: the F names, in the order of the readings in a frame.
      name: what to call it, such as its file's name.
      label_name: the column of the labels; None where they have none, as in arrays.
      one_label: whether the label is one for the whole recording, repeated over its frames.
      notes: what was assumed of its file, and what of it was ignored, as sentences.
    """

    frames: NDArray[np.float32]
    times: NDArray[np.float64]
    labels: NDArray[np.float32] | None
    sensor_names: tuple[str, ...]
    name: str
    label_name: str | None = None
    one_label: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return iter(self.frames)

    @property
    def rate_hz(self) -> float:
        """The median rate of frames; NaN where there are fewer than two."""
        if len(self.times) < 2:
            return float("nan")
        return _rate_hz(self.times) or float("nan")

    def reader(self, to_hz: float | None = None) -> Reader:
        """Returns what reads it as a file is read.

        Args:
          to_hz: the rate to bring the frames to; None keeps theirs.

        Raises:
          RecordingError: it is too short to have a rate to change.
        """
        found = Arrays(self.frames, self.times, self.labels, self.one_label, ())
        table = ArraysTable(self.name, found, self.sensor_names)
        # Its labels are encoded already.
        return Reader(
            table,
            self.sensor_names,
            Layout(time_unit="s"),
            to_hz=to_hz,
            labelling=Labelling("number"),
        )


def read(
    path: str | os.PathLike[str],
    sensors: Sequence[Sensor],
    layout: Layout | None = None,
    *,
    rate_hz: float | None = None,
    dropouts: bool = False,
) -> Recording:
    """Reads a file that is one recording; see `open_recording`.

    Raises:
      RecordingError: the file cannot be read, or is more than one recording.
      MissingExtraError: an extra that reads such files is not installed.
    """
    reader = open_recording(path, sensors, layout, rate_hz=rate_hz, dropouts=dropouts)
    found = gather(reader, reader.blocks())
    if len(found) > 1:
        raise RecordingError(f"{path}: is {len(found)} recordings, expected one.")
    return found[0]


def read_all(
    path: str | os.PathLike[str],
    sensors: Sequence[Sensor],
    layout: Layout | None = None,
    *,
    rate_hz: float | None = None,
    to_hz: float | None = None,
    labelled: bool = False,
    labelling: Labelling | None = None,
    mending: Mending | None = None,
) -> list[Recording]:
    """Reads the recordings of a file: one, those parted by gaps, or N sequences `[N, T, F]`.

    They have the file's name. See `open_recording` for the rest.

    Args:
      path: see `open_recording`.
      sensors: likewise.
      layout: likewise.
      rate_hz: likewise.
      to_hz: likewise.
      labelled: likewise.
      labelling: likewise.
      mending: what is done with readings that drop out; without it they are refused.
    """
    reader = open_recording(
        path,
        sensors,
        layout,
        rate_hz=rate_hz,
        to_hz=to_hz,
        dropouts=mending is not None,
        labelled=labelled,
        sequences=True,
        labelling=labelling,
    )
    return gather(reader, reader.blocks(None if mending is None else mending.blocks))


def gather(reader: Reader, blocks: Iterator[Block]) -> list[Recording]:
    """Returns what was read as whole recordings.

    Args:
      reader: of the file.
      blocks: its blocks, maybe mended and resampled.
    """
    found: list[list[Block]] = []
    for block in blocks:
        if not found or found[-1][-1].recording != block.recording:
            found.append([])
        found[-1].append(block)
    notes = (*reader.notes(), *reader.closing_notes())
    return [
        Recording(
            frames=np.concatenate([block.frames for block in parts]),
            times=np.concatenate([block.times for block in parts]),
            labels=_labels(parts),
            sensor_names=reader.sensor_names,
            name=reader.name,
            label_name=reader.label_name,
            one_label=reader.one_label,
            notes=notes,
        )
        for parts in found
    ]


def resample(recording: Recording, rate_hz: float) -> Recording:
    """Returns the recording at another rate; see `Resampling`.

    Raises:
      RecordingError: the recording is too short to have a rate.
    """
    resampling = Resampling.checked(recording.name, recording.rate_hz, rate_hz, is_unit_known=True)
    whole = Block(0, range(len(recording)), recording.frames, recording.times, recording.labels)
    parts = [*resampling.blocks(iter([whole]))]
    return dataclasses.replace(
        recording,
        frames=np.concatenate([block.frames for block in parts]),
        times=np.concatenate([block.times for block in parts]),
        labels=_labels(parts),
    )


def write_csv(recording: Recording, file: IO[str]) -> None:
    """Writes a recording as a CSV that reads back with the very same frames."""
    writer = csv.writer(file, lineterminator="\n")
    labels = [] if recording.labels is None else [recording.label_name or "label"]
    writer.writerow([_TIME, *recording.sensor_names, *labels])
    for index, frame in enumerate(recording.frames):
        row: list[object] = [float(recording.times[index]), *map(str, frame)]
        if recording.labels is not None:
            label = recording.labels[index]
            row.append("" if np.isnan(label) else f"{label:.9g}")
        writer.writerow(row)


def _labels(parts: Sequence[Block]) -> NDArray[np.float32] | None:
    labels = [block.labels for block in parts if block.labels is not None]
    return np.concatenate(labels) if labels else None

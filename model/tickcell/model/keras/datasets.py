"""What a network is trained on: noise, or recordings."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tickcell.model import recording as recordings_of
from tickcell.model.interface import Sensor
from tickcell.model.keras import windows
from tickcell.model.keras.description import unnamed_sensors
from tickcell.model.recording import Recording, RecordingError

NOISE = "noise"

# The tutorial's data set, and a rate, of which it says nothing.
_NOISE_COUNTS = (1024, 512)
_NOISE_RATE_HZ = 50.0
_NOISE_STEPS = 28
_NOISE_SENSORS = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Where training data comes from; plain data, so that a run can be resumed.

    Attributes:
      data: "noise", or paths of recordings.
      validation: paths of recordings to validate on.
      validation_share: without such paths, the last share of each recording, or of the
        sequences of each file that holds sequences.
      rate_hz: recordings are brought to this rate, anti-aliased, and those of a file without
        times have it; None keeps theirs.
      label: the column of labels; None for the only one that is neither a sensor's nor
        the time's.
    """

    data: tuple[str, ...]
    validation: tuple[str, ...] = ()
    validation_share: float = 0.0
    rate_hz: float | None = None
    label: str | None = None

    @property
    def kind(self) -> str:
        """What it is: "noise" or "recordings"."""
        return NOISE if self.data == (NOISE,) else "recordings"

    def to_dict(self) -> dict[str, Any]:
        """Returns the source as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Source:
        """Makes a source of what `to_dict` gave, from JSON too."""
        return cls(
            **{
                **fields,
                "data": tuple(fields["data"]),
                "validation": tuple(fields["validation"]),
            }
        )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Labelled recordings to train on and to validate on, all of the same sensors and rate.

    Attributes:
      training: at least one.
      validation: may be none.
      sensors: whose readings make a frame.
      rate_hz: of all of them.
      output_meaning: what the output of a network that learnt the labels means.
      output_name: what to call it.
    """

    training: list[Recording]
    validation: list[Recording]
    sensors: tuple[Sensor, ...]
    rate_hz: float
    output_meaning: str
    output_name: str = "output"

    @property
    def label_name(self) -> str | None:
        """The column of the labels; None where they have none."""
        return self.training[0].label_name

    @property
    def one_label(self) -> bool:
        """Whether each recording to train on has one label for all of its frames."""
        return all(recording.one_label for recording in self.training)

    @property
    def step_count(self) -> int:
        """The frames of each recording to train on.

        Raises:
          WindowError: they are not equally long.
        """
        counts = {len(recording) for recording in self.training}
        if len(counts) > 1:
            raise windows.WindowError(
                f"sequences: got lengths from {min(counts)} to {max(counts)} frames, expected "
                "one; name the frames of a window with --steps."
            )
        return counts.pop()


def load(source: Source, sensors: Sequence[Sensor]) -> Dataset:
    """Reads or makes the recordings of a source.

    Args:
      source: which.
      sensors: whose readings make a frame of a recording.

    Raises:
      RecordingError: a file cannot be read, has something in it that is no recording, or
        has no labels, or those of another column.
      WindowError: recordings do not have the same rate.
    """
    if source.kind == NOISE:
        training, validation = (_noise(seed, count) for seed, count in enumerate(_NOISE_COUNTS))
        meaning = "Nothing: the labels were random."
        sensors = unnamed_sensors(_NOISE_SENSORS)
        return Dataset(training, validation, sensors, _NOISE_RATE_HZ, meaning)
    files, validation_files = (
        [read_labelled(path, sensors, source.rate_hz, source.label) for path in paths]
        for paths in (source.data, source.validation)
    )
    training, validation = [*itertools.chain(*files)], [*itertools.chain(*validation_files)]
    if not validation and source.validation_share:
        training, validation = _split(files, source.validation_share)
    rate_hz, label = _common_rate(training + validation), _common_label(training + validation)
    if label is None:
        return Dataset(training, validation, tuple(sensors), rate_hz, "The label is 1.")
    meaning = f"The label {label!r} is 1."
    return Dataset(training, validation, tuple(sensors), rate_hz, meaning, label)


def read(
    path: str, sensors: Sequence[Sensor], rate_hz: float | None, label: str | None = None
) -> Recording:
    """Reads a recording, and brings it to a rate if one is given; without times, it has it."""
    recording = recordings_of.read(path, sensors, rate_hz=rate_hz, label=label)
    return _at_rate(recording, rate_hz)


def read_labelled(
    path: str, sensors: Sequence[Sensor], rate_hz: float | None, label: str | None = None
) -> list[Recording]:
    """Reads a recording, or each sequence of a file of them, as `read` does.

    Args:
      path: of the file.
      sensors: whose readings make a frame.
      rate_hz: see `read`.
      label: the column of labels; None for the only one that is neither a sensor's nor the
        time's.

    Raises:
      RecordingError: the file cannot be read, or has no such column.
    """
    found = recordings_of.read_all(path, sensors, rate_hz=rate_hz, label=label)
    others = found[0].ignored
    if label is None and found[0].labels is None and len(others) == 1:
        found = recordings_of.read_all(path, sensors, rate_hz=rate_hz, label=others[0])
    if found[0].labels is None:
        raise RecordingError(
            f"{path}: has no labels: looked for the only column that is neither a sensor's nor the "
            f"time's, and found {', '.join(map(repr, others)) or 'none'}; name it with --label."
        )
    return [_at_rate(recording, rate_hz) for recording in found]


def _at_rate(recording: Recording, rate_hz: float | None) -> Recording:
    if rate_hz is None or abs(recording.rate_hz / rate_hz - 1) < 0.01:
        return recording
    return recordings_of.resample(recording, rate_hz)


def _split(
    files: Sequence[Sequence[Recording]], validation_share: float
) -> tuple[list[Recording], list[Recording]]:
    """Splits what each file holds: its sequences, or its one recording in time."""
    training, validation = [], []
    for found in files:
        whole = len(found) > 1 or found[0].one_label
        split = windows.split_by_sequence if whole else windows.split_by_time
        first, last = split(found, validation_share)
        training += first
        validation += last
    return training, validation


def _noise(seed: int, count: int) -> list[Recording]:
    """Makes normal readings, and a label for each whole sequence that they say nothing of."""
    generator = np.random.default_rng(seed)
    frames = generator.standard_normal((count, _NOISE_STEPS, _NOISE_SENSORS), np.float32)
    labels = generator.integers(0, 2, count)
    return [
        Recording(
            frames=frames[number],
            times=np.arange(_NOISE_STEPS) / _NOISE_RATE_HZ,
            labels=np.full(_NOISE_STEPS, labels[number], np.float32),
            sensor_names=tuple(sensor.name for sensor in unnamed_sensors(_NOISE_SENSORS)),
            name=f"noise-{number}",
        )
        for number in range(count)
    ]


def _common_rate(recordings: Sequence[Recording]) -> float:
    rates = [recording.rate_hz for recording in recordings]
    if max(rates) > 1.01 * min(rates):
        raise windows.WindowError(
            f"recordings: got rates from {min(rates):g} to {max(rates):g} Hz, expected one; "
            "bring them to the same with --rate-hz."
        )
    return float(np.median(rates))


def _common_label(recordings: Sequence[Recording]) -> str | None:
    names = {recording.label_name for recording in recordings} - {None}
    if len(names) > 1:
        raise RecordingError(
            f"recordings: got labels from the columns {', '.join(sorted(map(repr, names)))}, "
            "expected one; name it with --label."
        )
    return names.pop() if names else None

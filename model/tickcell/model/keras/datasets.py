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
from tickcell.model.recording import Layout, Recording

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
      layout: what is known of the files.
    """

    data: tuple[str, ...]
    validation: tuple[str, ...] = ()
    validation_share: float = 0.0
    rate_hz: float | None = None
    layout: Layout = dataclasses.field(default_factory=Layout)

    @property
    def kind(self) -> str:
        """What it is: "noise" or "recordings"."""
        return NOISE if self.data == (NOISE,) else "recordings"

    @property
    def output_name(self) -> str:
        """What to call the output of a network that learnt its labels."""
        label = self.layout.label if self.kind != NOISE and self._names_labels else None
        return label or "output"

    @property
    def output_meaning(self) -> str:
        """What such an output means, as a sentence."""
        if self.kind == NOISE:
            return "Nothing: the labels were random."
        return f"The label {self.layout.label!r} is 1." if self._names_labels else "The label is 1."

    @property
    def _names_labels(self) -> bool:
        # Arrays have no column whose name would say what is labelled.
        return not all(path.lower().endswith(".npz") for path in self.data)

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
                "layout": Layout.from_dict(fields["layout"]),
            }
        )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Recordings to train on and to validate on, all of the same sensors and rate."""

    training: list[Recording]
    validation: list[Recording]
    sensors: tuple[Sensor, ...]
    rate_hz: float

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
      RecordingError: a file cannot be read, or has something in it that is no recording.
      WindowError: recordings do not have the same rate.
    """
    if source.kind == NOISE:
        training, validation = (_noise(seed, count) for seed, count in enumerate(_NOISE_COUNTS))
        return Dataset(training, validation, unnamed_sensors(_NOISE_SENSORS), _NOISE_RATE_HZ)
    files, validation_files = (
        [read_all(path, sensors, source.rate_hz, source.layout) for path in paths]
        for paths in (source.data, source.validation)
    )
    training, validation = [*itertools.chain(*files)], [*itertools.chain(*validation_files)]
    if not validation and source.validation_share:
        training, validation = _split(files, source.validation_share)
    return Dataset(training, validation, tuple(sensors), _common_rate(training + validation))


def read_all(
    path: str, sensors: Sequence[Sensor], rate_hz: float | None, layout: Layout | None = None
) -> list[Recording]:
    """Reads the recordings of a file, and brings them to a rate if one is given.

    A file without times is taken to have that rate.
    """
    return recordings_of.read_all(path, sensors, layout, rate_hz=rate_hz, to_hz=rate_hz)


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

"""What a network is trained on: noise, or recordings."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tickcell.model import recording as recordings_of
from tickcell.model.interface import Sensor, unnamed_sensors
from tickcell.model.keras import windows
from tickcell.model.recording import Layout, Recording, RecordingError, open_recording
from tickcell.model.recording.labels import Labelling, Labels
from tickcell.model.recording.mending import Mending, Policy

NOISE = "noise"

_BINARY = Labelling()

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
      rate_hz: recordings are resampled to this rate, anti-aliased, and those of a file without
        times have it; None keeps theirs.
      layout: what is known of the files.
      labels: where the labels come from, and what they are.
      on_dropout: what is done with readings that drop out; None refuses them.
    """

    data: tuple[str, ...]
    validation: tuple[str, ...] = ()
    validation_share: float = 0.0
    rate_hz: float | None = None
    layout: Layout = dataclasses.field(default_factory=Layout)
    labels: Labels = dataclasses.field(default_factory=Labels)
    on_dropout: Policy | None = None

    @property
    def kind(self) -> str:
        """What it is: "noise" or "recordings"."""
        return NOISE if self.data == (NOISE,) else "recordings"

    @property
    def is_in_cycles(self) -> bool:
        """Whether times count ticks, and a rate is one frame a tick."""
        return self.layout.time_unit == "cycle"

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
                "labels": Labels(**fields["labels"]),
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
      labelling: what the labels are.
    """

    training: list[Recording]
    validation: list[Recording]
    sensors: tuple[Sensor, ...]
    rate_hz: float
    output_meaning: str
    output_name: str = "output"
    labelling: Labelling = _BINARY

    @property
    def label_name(self) -> str | None:
        """The column of the labels; None where they have none."""
        return self.training[0].label_name

    @property
    def unlabelled_count(self) -> int:
        """The frames without a label, which are not learnt."""
        parts = (*self.training, *self.validation)
        return sum(int(np.isnan(one.labels).sum()) for one in parts if one.labels is not None)

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
    labelling = _labelling(source, sensors)
    files, validation_files = (
        _read_labelled(source, paths, sensors, labelling)
        for paths in (source.data, source.validation)
    )
    training, validation = [*itertools.chain(*files)], [*itertools.chain(*validation_files)]
    if not validation and source.validation_share:
        training, validation = _split(files, source.validation_share)
    found = training + validation
    rate_hz, label = _common_rate(found), _common_label(found)
    meaning, name = _output(source, labelling, label)
    return Dataset(training, validation, tuple(sensors), rate_hz, meaning, name, labelling)


def _output(source: Source, labelling: Labelling, label: str | None) -> tuple[str, str]:
    """Returns what an output means that learnt the labels, and what to call it."""
    if source.labels.countdown:
        return "What remains of the recording.", "remaining"
    name = "The label" if label is None else f"The label {label!r}"
    if labelling.kind == "classes":
        name = "The label" if label is None else f"The class in the column {label!r}"
        return f"{name}: each output is the probability of one class.", label or "output"
    if labelling.kind == "number":
        return f"{name}, a number.", label or "output"
    return f"{name} is 1.", label or "output"


def _labelling(source: Source, sensors: Sequence[Sensor]) -> Labelling:
    """Judges what the labels of all files together are."""
    labels = source.labels
    if labels.countdown:
        return Labelling("number", unit=source.layout.time_unit or "s")
    if labels.file:
        if source.validation:
            raise RecordingError(
                "--label-file: has the labels of --data, not of --validation; "
                "--validation-share splits recordings off."
            )
        return labels.judged(labels.read_file())
    if labels.kind in ("probability", "number"):
        return Labelling(labels.kind, null_class=labels.null_class)
    values: set[Any] = set()
    for path in (*source.data, *source.validation):
        reader = open_recording(
            path,
            sensors,
            source.layout,
            rate_hz=source.rate_hz,
            dropouts=source.on_dropout is not None,
            labelled=True,
            sequences=True,
        )
        values.update(reader.label_values())
    return labels.judged(values)


def _read_labelled(
    source: Source, paths: Sequence[str], sensors: Sequence[Sensor], labelling: Labelling
) -> list[list[Recording]]:
    """Reads the recordings of each file, labelled as was asked."""
    layout = source.layout
    if not source.labels.are_of_column:
        layout = dataclasses.replace(layout, label=None)
    files = []
    for path in paths:
        mending = None if source.on_dropout is None else Mending(source.on_dropout)
        found = recordings_of.read_all(
            path,
            sensors,
            layout,
            rate_hz=source.rate_hz,
            to_hz=source.rate_hz,
            labelled=source.labels.are_of_column,
            labelling=labelling,
            mending=mending,
        )
        notes = (*found[0].notes, *(mending.notes() if mending else ()))
        files.append([dataclasses.replace(one, notes=notes) for one in found])
    if source.labels.are_of_column or not files:
        return files
    assigned = iter(
        source.labels.assigned([one.times for found in files for one in found], labelling)
    )
    return [
        [
            dataclasses.replace(one, labels=next(assigned), one_label=bool(source.labels.file))
            for one in found
        ]
        for found in files
    ]


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
            "resample them with --rate-hz."
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

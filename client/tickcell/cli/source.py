"""What is replayed: samples in order, from a file or as they arrive, each mended as asked."""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from tickcell.cli import samples
from tickcell.client.errors import TickcellError
from tickcell.model import recording
from tickcell.model.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tickcell.client.dropout import Dropouts
    from tickcell.client.resources import Model
    from tickcell.model.recording import Recording


class SourceError(TickcellError):
    """A recording does not fit the model, or cannot be used as asked."""


class Sample(NamedTuple):
    """One frame of a recording.

    Attributes:
      t: its time in seconds.
      frame: `[F]` float32.
      label: 0 or 1, or None.
    """

    t: float
    frame: NDArray[np.float32]
    label: float | None


class Source(Protocol):
    """Samples to replay.

    Attributes:
      name: what to call it.
      rate_hz: of its frames.
      has_labels: whether each sample has a label.
      length: the number of samples; None if it is not known before the end.
    """

    @property
    def name(self) -> str: ...
    @property
    def rate_hz(self) -> float: ...
    @property
    def has_labels(self) -> bool: ...
    @property
    def length(self) -> int | None: ...

    def samples(self, first_step: int) -> Iterator[Sample]:
        """Yields the samples from a step on, once."""

    def notes(self) -> Iterator[str]:
        """Yields what is odd about it, as sentences."""


@dataclasses.dataclass(frozen=True, slots=True)
class FileSource:
    """A whole recording, at a rate.

    Attributes:
      recording: mended and resampled.
      model: for which it is.
    """

    recording: Recording
    model: Model

    @property
    def name(self) -> str:
        return self.recording.name

    @property
    def rate_hz(self) -> float:
        return self.recording.rate_hz

    @property
    def has_labels(self) -> bool:
        return self.recording.labels is not None

    @property
    def length(self) -> int:
        return len(self.recording)

    def samples(self, first_step: int) -> Iterator[Sample]:
        whole = self.recording
        for step in range(first_step, len(whole)):
            label = None if whole.labels is None else float(whole.labels[step])
            yield Sample(float(whole.times[step]), whole.frames[step], label)

    def notes(self) -> Iterator[str]:
        yield from _ignored(self.name, self.recording.ignored)
        rate_hz, model = self.rate_hz, self.model
        if len(self.recording) > 1 and not math.isclose(rate_hz, model.rate_hz, rel_tol=0.05):
            yield (
                f"{self.name}: has {rate_hz:.3g} frames a second, and {model.name} was trained at "
                f"{model.rate_hz:g}; its outputs may mean little: see --resample"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class LiveSource:
    """Rows of CSV on standard input, each a sample as soon as it is there."""

    rows: Rows
    rate_hz: float
    dropouts: Dropouts
    name: str = "standard input"
    length: None = None

    @property
    def has_labels(self) -> bool:
        return self.rows.columns.label is not None

    def samples(self, first_step: int) -> Iterator[Sample]:
        # From the first row on: what is held depends on all that came before.
        mended = (
            Sample(
                step / self.rate_hz if row.time is None else row.time,
                self.dropouts.apply(row.frame, step),
                row.label,
            )
            for step, row in enumerate(self.rows)
        )
        return itertools.islice(mended, first_step, None)

    def notes(self) -> Iterator[str]:
        yield from _ignored(self.name, self.rows.columns.ignored)


def live(
    model: Model, dropouts: Dropouts, *, hz: float | None = None, label: str | None = None
) -> LiveSource:
    """Reads the names of the columns on standard input.

    Args:
      model: whose sensors are wanted.
      dropouts: mends the frames.
      hz: the rate of rows that have no times; by default the model's.
      label: the column of labels; None for rows without.

    Raises:
      RecordingError: a sensor is missing.
    """
    rows = Rows(
        sys.stdin,
        model.sensors,
        source="standard input",
        label=label,
        dropouts=dropouts.policy != "raise",
    )
    return LiveSource(rows, hz or model.rate_hz, dropouts)


def from_file(
    path: str | None,
    model: Model,
    dropouts: Dropouts,
    *,
    hz: float | None = None,
    label: str | None = None,
    resample: bool = False,
) -> FileSource:
    """Reads a recording.

    Args:
      path: of a file; None for the shipped sample.
      model: whose sensors are wanted.
      dropouts: mends the frames.
      hz: the rate of a file that has no times; by default the model's.
      label: the column of labels; None for a file without.
      resample: whether to bring the recording to the model's rate.

    Raises:
      SourceError: the sample is not of this model's sensors.
      RecordingError: the file cannot be read.
      FrameError: a reading dropped out, and cannot be mended.
    """
    whole = _sample_for(model) if path is None else _read(path, model, dropouts, hz, label)
    mended = [dropouts.apply(frame, step) for step, frame in enumerate(whole.frames)]
    whole = dataclasses.replace(whole, frames=np.stack(mended))
    if resample:
        whole = recording.resample(whole, model.rate_hz)
    return FileSource(whole, model)


def _read(
    path: str, model: Model, dropouts: Dropouts, hz: float | None, label: str | None
) -> Recording:
    return recording.read(
        path,
        model.sensors,
        rate_hz=hz or model.rate_hz,
        label=label,
        dropouts=dropouts.policy != "raise",
    )


def _sample_for(model: Model) -> Recording:
    whole = samples.shipped()
    wanted = tuple(sensor.name for sensor in model.sensors)
    if whole.sensor_names != wanted:
        raise SourceError(
            f"the sample has the sensors {', '.join(whole.sensor_names)}; {model.name} "
            f"{model.version} wants {', '.join(wanted)}: name a RECORDING."
        )
    return whole


def _ignored(name: str, columns: tuple[str, ...]) -> Iterator[str]:
    if columns:
        yield f"{name}: ignores the columns {', '.join(columns)}"

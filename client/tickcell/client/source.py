"""What is replayed: samples in order, and what is to be known of them before."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from tickcell.client import samples
from tickcell.client.errors import TickcellError
from tickcell.client.replay import Sample
from tickcell.model import recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tickcell.client.resources import Model
    from tickcell.model.recording import Recording


class SourceError(TickcellError):
    """A recording does not fit the model."""


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """A recording for a model, in a rate.

    Attributes:
      recording: the whole of it.
      rate_hz: of its frames.
    """

    recording: Recording
    rate_hz: float

    def samples(self, first_step: int) -> Iterator[Sample]:
        """Yields the samples from a step on."""
        whole = self.recording
        for step in range(first_step, len(whole)):
            label = None if whole.labels is None else float(whole.labels[step])
            yield Sample(float(whole.times[step]), whole.frames[step], label)


def read(
    path: str | None, model: Model, *, hz: float | None = None, resample: bool = False
) -> Source:
    """Reads a recording for a model.

    Args:
      path: of a file; None for the shipped sample.
      model: whose sensors are wanted.
      hz: the rate at which to play the frames, if not the recording's own.
      resample: whether to bring the recording to the model's rate.

    Raises:
      SourceError: the sample is not of this model's sensors.
      RecordingError: the file cannot be read.
    """
    if path is None:
        whole = samples.shipped()
        wanted = tuple(sensor.name for sensor in model.sensors)
        if whole.sensor_names != wanted:
            raise SourceError(
                f"the sample has the sensors {', '.join(whole.sensor_names)}; {model.name} "
                f"{model.version} wants {', '.join(wanted)}: name a RECORDING."
            )
    else:
        whole = recording.read(path, model.sensors)
    return Source(_at_rate(whole, hz), hz or whole.rate_hz)


def notes(source: Source, model: Model) -> Iterator[str]:
    """Yields what is odd about a recording, as sentences."""
    whole = source.recording
    if whole.ignored:
        yield f"{whole.name}: ignores the columns {', '.join(whole.ignored)}"
    if not math.isclose(source.rate_hz, model.rate_hz, rel_tol=0.05):
        yield (
            f"{whole.name}: has {source.rate_hz:.3g} frames a second, and {model.name} was trained "
            f"at {model.rate_hz:g}; its outputs may mean little: see --resample"
        )


def _at_rate(whole: Recording, hz: float | None) -> Recording:
    if hz is None:
        return whole
    return dataclasses.replace(whole, times=[step / hz for step in range(len(whole))])

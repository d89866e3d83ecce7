"""What is replayed: samples in order, from a file or as they arrive, each mended as asked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tickcell.cli import samples
from tickcell.client.errors import FrameError, TickcellError
from tickcell.model import recording
from tickcell.model.recording import Block, Layout, Reader, Recording
from tickcell.model.recording.labels import Labelling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.client.dropout import Dropouts
    from tickcell.client.resources import Model

_RATE_TOLERANCE = 0.05

_BINARY = Labelling()


class SourceError(TickcellError):
    """A recording does not fit the model, or cannot be used as asked."""


class Sample(NamedTuple):
    """One frame of a recording.

    Attributes:
      t: its time in seconds.
      frame: `[F]` float32.
      label: its text, as the labels of the model's outputs are written, empty where this
        frame has none; or None where no frame has one.
    """

    t: float
    frame: NDArray[np.float32]
    label: str | None


class Source:
    """Samples to replay, which can be had once.

    Attributes:
      name: what to call it.
      rate_hz: of its frames.
      has_labels: whether each sample has a label.
      is_live: whether samples come as they arrive.
      length: the number of samples; None if it is not known before the end.
      expected_length: about how many there are, where that can be told.
      read_count: how many were read so far.
    """

    def __init__(
        self,
        reader: Reader,
        model: Model,
        dropouts: Dropouts,
        labelling: Labelling = _BINARY,
        *,
        is_sample: bool = False,
    ) -> None:
        """Takes what is read.

        Args:
          reader: of a file, or of the sample.
          model: for which it is.
          dropouts: mends the frames.
          labelling: what the labels are, if there are any.
          is_sample: whether it is the shipped sample, of which nothing is assumed.
        """
        self._reader = reader
        self._model = model
        self._dropouts = dropouts
        self._is_sample = is_sample
        self._labelling = labelling
        self.name = reader.name
        self.rate_hz = reader.rate_hz
        self.has_labels = reader.has_labels
        self.is_live = reader.is_live
        self.length = reader.length
        self.expected_length = reader.expected_length
        self.read_count = 0

    def blocks(self) -> Iterator[Block]:
        """Yields the mended frames, once."""
        return self._reader.blocks(self._mend)

    def samples(
        self, first_step: int, watch: Callable[[Block], object] = lambda _: None
    ) -> Iterator[Sample]:
        """Yields the samples from a step on, once.

        Args:
          first_step: of the first sample.
          watch: is given all frames, those before that step too.
        """
        # From the first frame on: what is held depends on all that came before.
        return itertools.islice(self._samples(watch), first_step, None)

    def notes(self) -> Iterator[str]:
        """Yields what is assumed and what is odd about it, as sentences."""
        if not self._is_sample:
            for note in self._reader.notes():
                yield f"{self.name}: {note}"
        rate_hz, model = self.rate_hz, self._model
        is_known = not self.is_live and not math.isnan(rate_hz)
        if is_known and not math.isclose(rate_hz, model.rate_hz, rel_tol=_RATE_TOLERANCE):
            yield (
                f"{self.name}: has a rate of {rate_hz:.3g} Hz, but {model.name} was trained at "
                f"{model.rate_hz:g} Hz; its outputs may be meaningless: see --resample"
            )

    def closing_notes(self) -> Iterator[str]:
        """Yields what there was to tell of its samples, once they are read."""
        for note in self._reader.closing_notes():
            yield f"{self.name}: {note}"
        if self._dropouts.count:
            counts = ", ".join(f"{name} {count}" for name, count in self._dropouts.counts.items())
            yield f"{self._dropouts.count} readings dropped out: {counts}"

    def whole(
        self, blocks: Iterable[Block], advance: Callable[[int], object] = lambda _: None
    ) -> Recording:
        """Returns its frames as one recording.

        Args:
          blocks: all of them.
          advance: is told of the number of frames as they are read.
        """

        def told() -> Iterator[Block]:
            for block in blocks:
                advance(len(block.frames))
                yield block

        return recording.gather(self._reader, told())[0]

    def _samples(self, watch: Callable[[Block], object]) -> Iterator[Sample]:
        for block in self.blocks():
            watch(block)
            self.read_count += len(block.frames)
            labels: Iterable[str | None] = itertools.repeat(None)
            if block.labels is not None:
                labels = map(self._labelling.text, block.labels.tolist())
            yield from map(Sample, block.times.tolist(), block.frames, labels)

    def _mend(self, blocks: Iterator[Block]) -> Iterator[Block]:
        step = 0
        for block in blocks:
            try:
                frames = self._dropouts.apply_all(block.frames, step)
            except FrameError as error:
                good_count = int(error.metadata["step"]) - step
                if good_count:
                    yield block.part(0, good_count)
                raise
            yield block._replace(frames=frames)
            step += len(frames)


def open_source(
    path: str | None,
    model: Model,
    dropouts: Dropouts,
    layout: Layout | None = None,
    labelling: Labelling = _BINARY,
    *,
    hz: float | None = None,
    resample: bool = False,
) -> Source:
    """Opens a recording.

    Args:
      path: of a file; "-" for standard input; None for the shipped sample.
      model: whose sensors are wanted.
      dropouts: mends the frames.
      layout: what is known of the file.
      labelling: what its labels are, if it has any.
      hz: the rate of a file that has no times; by default the model's.
      resample: whether to bring the recording to the model's rate.

    Raises:
      SourceError: the sample is not of this model's sensors.
      RecordingError: the file cannot be read.
    """
    to_hz = model.rate_hz if resample else None
    if path is None:
        return Source(_sample_for(model).reader(to_hz), model, dropouts, is_sample=True)
    reader = recording.open_recording(
        path,
        model.sensors,
        layout,
        rate_hz=hz or model.rate_hz,
        to_hz=to_hz,
        dropouts=dropouts.policy != "raise",
        labelling=labelling,
    )
    return Source(reader, model, dropouts, labelling)


def _sample_for(model: Model) -> Recording:
    whole = samples.shipped()
    wanted = tuple(sensor.name for sensor in model.sensors)
    if whole.sensor_names != wanted:
        raise SourceError(
            f"the sample has the sensors {', '.join(whole.sensor_names)}; {model.name} "
            f"{model.version} needs {', '.join(wanted)}: name a RECORDING."
        )
    return whole

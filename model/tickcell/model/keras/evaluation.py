"""How a bundle does on labelled recordings, streamed one frame at a time as in production."""

from __future__ import annotations

import array
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model import agreement
from tickcell.model.bundle import Bundle
from tickcell.model.cell import Cell
from tickcell.model.keras import scores
from tickcell.model.keras.scored import Part, Scored, scored
from tickcell.model.keras.scores import ScoreError, Scores
from tickcell.model.ranges import Ranges, ReadingError
from tickcell.model.recording import Block, Reader, Recording
from tickcell.model.recording.labels import Labels
from tickcell.model.recording.mending import Mending

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The carried state is compared at stream lengths that double.
_FIRST_LENGTH_S = 15.0
_PUSH = 0.5
_SAME = 1e-3
# So many frames of the first recording are kept, to see a push to the state forgotten.
_START_FRAMES = 30_000

_OF_COLUMN = Labels()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """What is kept of a recording once it is streamed.

    Attributes:
      name: of the recording.
      times: `[T]` float64, seconds.
      labels: `[T]` float32, NaN where a frame has none; or None.
      outputs: `[T, O]` float32, of its frames; those that are scored.
      one_label: whether the label is one for the whole recording.
    """

    name: str
    times: NDArray[np.float64]
    labels: NDArray[np.float32] | None
    outputs: NDArray[np.float32]
    one_label: bool = False

    @property
    def scored(self) -> slice:
        """The frames to score: all, or the last where the label is of the whole recording."""
        return slice(-1 if self.one_label else 0, None)

    def between(self, start_s: float, end_s: float) -> Streamed:
        """Returns the frames to score that came so many seconds after the first."""
        age_s = np.array([start_s, end_s])
        first, stop = np.searchsorted(self.times, self.times[0] + age_s)
        if self.one_label:
            first = max(first, len(self.times) - 1)
        labels = None if self.labels is None else self.labels[first:stop]
        return dataclasses.replace(
            self, times=self.times[first:stop], labels=labels, outputs=self.outputs[first:stop]
        )


@dataclasses.dataclass(frozen=True, slots=True)
class OutputScores:
    """How one output does, or those of classes together.

    Attributes:
      overall: over the labelled frames of all recordings; of one with one label, the last.
      by_recording: by a recording's name, which all sequences of a file share; without
        those in which too few labels occur.
      by_stream_age: the first of the `scores.marks` by the seconds since the stream began,
        so that a network which loses its way over time is found out.
    """

    overall: Scores
    by_recording: dict[str, Scores]
    by_stream_age: dict[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """How a bundle does.

    Attributes:
      by_output: by the output's name, or the number's of an output that has several; the
        numbers of classes are scored together.
      unlabelled_count: the frames without a label, which are not scored.
      forgetting_s: seconds until outputs are the same to 0.001 after the state was pushed
        hard, at the worst of some places at the start of the first recording; None if half
        of that is too short to see it.
    """

    by_output: dict[str, OutputScores]
    unlabelled_count: int
    forgetting_s: float | None

    @property
    def first(self) -> OutputScores:
        """The scores of the first output."""
        return next(iter(self.by_output.values()))

    def to_dict(self) -> dict[str, Any]:
        """Returns the evaluation as plain data."""
        return dataclasses.asdict(self)


def stream(
    cell: Cell,
    reader: Reader,
    watch: Callable[[Block], object] = lambda _: None,
    mending: Mending | None = None,
    columns: Sequence[int] | None = None,
) -> Iterator[Streamed]:
    """Steps through each recording of a file from the initial state.

    Args:
      cell: steps.
      reader: of the file; its frames are not kept.
      watch: is given each block of frames once it is streamed.
      mending: what is done with readings that drop out, if the reader lets them.
      columns: those of an output row that are kept; all without them.

    Raises:
      ScoreError: a reading is one that a server refuses.
    """
    chosen = slice(None) if columns is None else list(columns)
    kept, recording = _Kept(), None
    state = cell.initial_state()
    ranges = Ranges(cell.interface.sensors, cell.interface.mask_value)
    for block in reader.blocks(None if mending is None else mending.blocks):
        if recording not in (None, block.recording):
            yield kept.streamed(reader)
            kept, state = _Kept(), cell.initial_state()
        recording = block.recording
        try:
            ranges.check(block.frames)
        except ReadingError as error:
            raise _refused(reader, block, error, is_mended=mending is not None) from error
        outputs = np.empty((len(block.frames), cell.interface.output_count), np.float32)
        for index, frame in enumerate(block.frames):
            outputs[index], state = cell.step(frame, state)
        kept.add(block, outputs[:, chosen])
        watch(block)
    if recording is not None:
        yield kept.streamed(reader)


def _refused(reader: Reader, block: Block, error: ReadingError, *, is_mended: bool) -> ScoreError:
    """Returns the error of a reading that a server would refuse too."""
    way_out = (
        "It was interpolated or resampled from others; give the "
        "recording at the bundle's rate, with --on-dropout drop or hold."
        if is_mended
        else "--on-dropout drop, hold or interpolate continues, and counts such readings."
    )
    return ScoreError(f"{reader.name}: at {block.times[error.index[0]]:g} s: {error} {way_out}")


def evaluate(
    bundle: Bundle,
    recordings: Sequence[Recording | Reader],
    advance: Callable[[int], object] = lambda _: None,
    *,
    chosen: Scored | None = None,
    labels: Labels = _OF_COLUMN,
    mending: Mending | None = None,
) -> tuple[Evaluation, list[Streamed]]:
    """Streams labelled recordings and scores the outputs.

    Args:
      bundle: of the network.
      recordings: whole ones, or files as they are read, with labels as `chosen` says.
      advance: is told of the number of steps that were done.
      chosen: what is scored; all outputs without it.
      labels: where the labels come from.
      mending: what is done with readings that drop out; without it they are refused.

    Raises:
      ScoreError: a recording has no labels, or all of them together lack one that it takes.
      RecordingError: a file cannot be read to its end.
    """
    readers = [one.reader() if isinstance(one, Recording) else one for one in recordings]
    for reader in readers:
        if labels.are_of_column and not reader.has_labels:
            raise ScoreError(
                f"{reader.name}: has no labels to compare the outputs with; name their column with "
                "--label."
            )
    chosen = chosen or scored(bundle, null_class=labels.null_class)
    cell = bundle.cell()
    start: list[NDArray[np.float32]] = []
    lacking = _START_FRAMES  # Counted down, since blocks of standard input are of one row.

    def watch(block: Block) -> None:
        nonlocal lacking
        if reader is readers[0] and block.recording == 0 and lacking > 0:
            start.append(block.frames[:lacking])
            lacking -= len(start[-1])
        advance(len(block.frames))

    streamed: list[Streamed] = []
    for reader in readers:
        streamed += stream(cell, reader, watch, mending, chosen.columns)
    if not labels.are_of_column:
        assigned = labels.assigned([part.times for part in streamed], chosen.labelling)
        streamed = [
            dataclasses.replace(part, labels=found, one_label=bool(labels.file))
            for part, found in zip(streamed, assigned, strict=True)
        ]
    evaluation = Evaluation(
        by_output={part.name: _output_scores(streamed, part, chosen) for part in chosen.parts},
        unlabelled_count=sum(int(np.isnan(_labels([part])).sum()) for part in streamed),
        forgetting_s=_forgetting_s(cell, np.concatenate(start), readers[0].rate_hz),
    )
    return evaluation, streamed


class _Kept:
    """What is kept of the frames of a recording, 16 bytes of each with one output.

    In arrays that grow in place: joining parts would take the memory of both.
    """

    def __init__(self) -> None:
        """Holds nothing yet."""
        self._times = array.array("d")
        self._labels = array.array("f")
        self._outputs = array.array("f")

    def add(self, block: Block, outputs: NDArray[np.float32]) -> None:
        """Adds a block's frames, of which the outputs are `[n, O]`."""
        self._times.frombytes(block.times.tobytes())
        self._outputs.frombytes(outputs.tobytes())
        if block.labels is not None:
            self._labels.frombytes(block.labels.tobytes())

    def streamed(self, reader: Reader) -> Streamed:
        """Returns it as a recording of the file; nothing can be added any more."""
        times = np.frombuffer(self._times)
        return Streamed(
            name=reader.name,
            times=times,
            labels=np.frombuffer(self._labels, np.float32) if self._labels else None,
            outputs=np.frombuffer(self._outputs, np.float32).reshape(len(times), -1),
            one_label=reader.one_label,
        )


def _forgetting_s(cell: Cell, frames: NDArray[np.float32], rate_hz: float) -> float | None:
    steps = agreement.forgetting_steps(cell, frames, push=_PUSH, within=_SAME)
    return steps / rate_hz if steps < len(frames) // 2 else None


_Score = Callable[["NDArray[np.float32]", "NDArray[np.float32]"], Scores]


def _output_scores(streamed: Sequence[Streamed], of: Part, chosen: Scored) -> OutputScores:
    columns = of.columns
    score = functools.partial(scores.score, labelling=chosen.labelling, threshold=of.threshold)
    by_name: dict[str, list[Streamed]] = {}
    for part in streamed:
        by_name.setdefault(part.name, []).append(part)
    by_recording = {}
    for name, parts in by_name.items():
        if scores.is_varied(_labels(parts)):
            by_recording[name] = score(_outputs(parts, columns), _labels(parts))
    return OutputScores(
        overall=score(_outputs(streamed, columns), _labels(streamed)),
        by_recording=by_recording,
        by_stream_age=_by_stream_age(streamed, columns, score),
    )


def _outputs(streamed: Sequence[Streamed], columns: slice) -> NDArray[np.float32]:
    return _joined([part.outputs[part.scored][:, columns] for part in streamed])


def _labels(streamed: Sequence[Streamed]) -> NDArray[np.float32]:
    labels = []
    for part in streamed:
        assert part.labels is not None
        labels.append(part.labels[part.scored])
    return _joined(labels)


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Returns parts as one, the only one as it is."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _by_stream_age(streamed: Sequence[Streamed], columns: slice, score: _Score) -> dict[str, float]:
    """Returns one measure of the frames between two ages of the stream, both in seconds."""
    longest_s = max(part.times[-1] - part.times[0] for part in streamed)
    by_age = {}
    start, end = 0.0, _FIRST_LENGTH_S
    while start <= longest_s:
        cut = [part.between(start, end) for part in streamed]
        if scores.is_varied(labels := _labels(cut)):
            marks = scores.marks(score(_outputs(cut, columns), labels))
            by_age[f"{start:.0f}-{end:.0f} s"] = next(iter(marks.values()))
        start, end = end, 2 * end
    return by_age

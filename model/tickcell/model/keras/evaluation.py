"""How a bundle does on labelled recordings, streamed one frame at a time as in production."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model.bundle import Bundle
from tickcell.model.cell import Cell
from tickcell.model.keras import agreement, scores
from tickcell.model.keras.scored import Part, Scored, scored
from tickcell.model.keras.scores import ScoreError, Scores
from tickcell.model.ranges import ReadingError
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
_NO_FRAMES = np.empty((0, 0), np.float32)

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
      ScoreError: a reading must be a whole number that the model knows, and is not.
    """
    kept = slice(None) if columns is None else list(columns)
    parts: list[tuple[Block, NDArray[np.float32]]] = []
    state = cell.initial_state()
    for block in reader.blocks(None if mending is None else mending.blocks):
        if parts and parts[-1][0].recording != block.recording:
            yield _joined(reader, parts)
            parts, state = [], cell.initial_state()
        outputs = np.empty((len(block.frames), cell.interface.output_count), np.float32)
        for index, frame in enumerate(block.frames):
            try:
                outputs[index], state = cell.step(frame, state)
            except ReadingError as error:
                raise ScoreError(f"{reader.name}: at {block.times[index]:g} s: {error}") from error
        # Nothing of the frames is kept: an empty part of them would keep them all.
        parts.append((block._replace(frames=_NO_FRAMES, rows=()), outputs[:, kept]))
        watch(block)
    if parts:
        yield _joined(reader, parts)


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

    def watch(block: Block) -> None:
        lacking = _START_FRAMES - sum(map(len, start))
        if reader is readers[0] and block.recording == 0 and lacking > 0:
            start.append(block.frames[:lacking])
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
        unlabelled_count=int(np.isnan(_labels(streamed)).sum()),
        forgetting_s=_forgetting_s(cell, np.concatenate(start), readers[0].rate_hz),
    )
    return evaluation, streamed


def _joined(reader: Reader, parts: Sequence[tuple[Block, NDArray[np.float32]]]) -> Streamed:
    labels = [block.labels for block, _ in parts if block.labels is not None]
    return Streamed(
        name=reader.name,
        times=np.concatenate([block.times for block, _ in parts]),
        labels=np.concatenate(labels) if labels else None,
        outputs=np.concatenate([outputs for _, outputs in parts]),
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
        found = np.unique(_labels(parts)[~np.isnan(_labels(parts))])
        if len(found) > 1:
            by_recording[name] = score(_outputs(parts, columns), _labels(parts))
    return OutputScores(
        overall=score(_outputs(streamed, columns), _labels(streamed)),
        by_recording=by_recording,
        by_stream_age=_by_stream_age(streamed, columns, score),
    )


def _outputs(streamed: Sequence[Streamed], columns: slice) -> NDArray[np.float32]:
    return np.concatenate([part.outputs[part.scored][:, columns] for part in streamed])


def _labels(streamed: Sequence[Streamed]) -> NDArray[np.float32]:
    labels = []
    for part in streamed:
        assert part.labels is not None
        labels.append(part.labels[part.scored])
    return np.concatenate(labels)


def _by_stream_age(streamed: Sequence[Streamed], columns: slice, score: _Score) -> dict[str, float]:
    """Returns one measure of the frames between two ages of the stream, both in seconds."""
    timed = [(part.times, part.scored) for part in streamed]
    ages = np.concatenate([times[scored] - times[0] for times, scored in timed])
    outputs, labels = _outputs(streamed, columns), _labels(streamed)
    by_age = {}
    start, end = 0.0, _FIRST_LENGTH_S
    while start <= ages.max():
        chosen = (ages >= start) & (ages < end) & ~np.isnan(labels)
        if len(np.unique(labels[chosen])) > 1:
            marks = scores.marks(score(outputs[chosen], labels[chosen]))
            by_age[f"{start:.0f}-{end:.0f} s"] = next(iter(marks.values()))
        start, end = end, 2 * end
    return by_age

"""How a bundle does on labelled recordings, streamed one frame at a time as in production."""

from __future__ import annotations

import dataclasses
<<<<<<< HEAD
import functools
from collections.abc import Callable, Sequence
=======
from collections.abc import Callable, Iterator, Sequence
>>>>>>> recordings
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model.bundle import Bundle
from tickcell.model.cell import Cell
from tickcell.model.keras import agreement, scores
from tickcell.model.keras.scores import ScoreError, Scores
<<<<<<< HEAD
from tickcell.model.recording import Recording
from tickcell.model.recording.labels import Labelling
=======
from tickcell.model.recording import Block, Reader, Recording
>>>>>>> recordings

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The carried state is compared at stream lengths that double.
_FIRST_LENGTH_S = 15.0
_PUSH = 0.5
_SAME = 1e-3
# So many frames of the first recording are kept, to see a push to the state forgotten.
_START_FRAMES = 30_000

# What is scored is named: an output, or all of them where they are of classes.
ALL_OUTPUTS = "classes"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Streamed:
<<<<<<< HEAD
    """A recording and the outputs of its frames, `[T, O]`."""
=======
    """What is kept of a recording once it is streamed.
>>>>>>> recordings

    Attributes:
      name: of the recording.
      times: `[T]` float64, seconds.
      labels: `[T]` float32, or None.
      outputs: `[T]` float32, of its frames.
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
<<<<<<< HEAD
        those in which too few labels occur.
      by_stream_age: the first of the `scores.marks` by the seconds since the stream began,
        so that a network which loses its way over time is found out.
=======
        those in which a label is missing.
      by_stream_age: the ROC AUC by the seconds since the stream began, so that a network
        which loses its way over time is found out.
      forgetting_s: seconds until outputs are the same to 0.001 after the state was pushed
        hard, at the worst of some places at the start of the first recording; None if half
        of that is too short to see it.
>>>>>>> recordings
    """

    overall: Scores
    by_recording: dict[str, Scores]
    by_stream_age: dict[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """How a bundle does.

    Attributes:
      by_output: by the output's name; of classes, all outputs together under "classes".
      unlabelled_count: the frames without a label, which are not scored.
      forgetting_s: seconds until outputs are the same to 0.001 after the state was pushed
        hard, at the worst of some places in the first recording; None if half of it is
        too short to see that.
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


<<<<<<< HEAD
def labelling_of(bundle: Bundle, null_class: str | None = None) -> Labelling:
    """Returns what the labels must be that a bundle's outputs are compared with."""
    card = bundle.card
    return Labelling(card.kind, tuple(card.classes), null_class, card.unit)


def stream(cell: Cell, recording: Recording) -> Streamed:
    """Steps through a recording from the initial state."""
    outputs = []
    state = cell.initial_state()
    for frame in recording:
        output, state = cell.step(frame, state)
        outputs.append(output)
    return Streamed(recording, np.array(outputs, np.float32))
=======
def stream(
    cell: Cell, reader: Reader, watch: Callable[[Block], object] = lambda _: None
) -> Iterator[Streamed]:
    """Steps through each recording of a file from the initial state; takes the first output.

    Args:
      cell: steps.
      reader: of the file; its frames are not kept.
      watch: is given each block of frames once it is streamed.
    """
    parts: list[tuple[Block, NDArray[np.float32]]] = []
    state = cell.initial_state()
    for block in reader.blocks():
        if parts and parts[-1][0].recording != block.recording:
            yield _joined(reader, parts)
            parts, state = [], cell.initial_state()
        outputs = np.empty(len(block.frames), np.float32)
        for index, frame in enumerate(block.frames):
            output, state = cell.step(frame, state)
            outputs[index] = output[0]
        # Nothing of the frames is kept.
        parts.append((block._replace(frames=block.frames[:0], rows=()), outputs))
        watch(block)
    if parts:
        yield _joined(reader, parts)
>>>>>>> recordings


def evaluate(
    bundle: Bundle,
    recordings: Sequence[Recording | Reader],
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[Evaluation, list[Streamed]]:
    """Streams labelled recordings and scores the outputs.

    Args:
<<<<<<< HEAD
      bundle: to be evaluated.
      recordings: whose labels are what `labelling_of` says.

    Raises:
      ScoreError: a recording has no labels, or all of them together lack one that it takes.
    """
    for recording in recordings:
        if recording.labels is None:
            raise ScoreError(
                f"{recording.name}: has no labels to compare the outputs with; name their column "
                "with --label."
            )
    cell = bundle.cell()
    streamed = [stream(cell, recording) for recording in recordings]
    score = functools.partial(
        scores.score, labelling=labelling_of(bundle), threshold=bundle.card.threshold
    )
    first = recordings[0]
    forgetting_steps = agreement.forgetting_steps(cell, first.frames, push=_PUSH, within=_SAME)
    is_forgotten = forgetting_steps < len(first) // 2
    evaluation = Evaluation(
        by_output={
            name: _output_scores(streamed, columns, score)
            for name, columns in _scored_outputs(bundle).items()
        },
        unlabelled_count=int(np.isnan(_labels(streamed)).sum()),
        forgetting_s=forgetting_steps / first.rate_hz if is_forgotten else None,
=======
      bundle: of the network.
      recordings: whole ones, or files as they are read.
      advance: is told of the number of steps that were done.

    Raises:
      ScoreError: a recording has no labels, or all of them together lack one of the two.
      RecordingError: a file cannot be read to its end.
    """
    readers = [one.reader() if isinstance(one, Recording) else one for one in recordings]
    for reader in readers:
        if not reader.has_labels:
            raise ScoreError(
                f"{reader.name}: has no labels to compare the outputs with: no column is named "
                f"{reader.label!r} (--label)."
            )
    cell = bundle.cell()
    threshold = bundle.card.threshold
    start: list[NDArray[np.float32]] = []

    def watch(block: Block) -> None:
        if reader is readers[0] and block.recording == 0:
            kept = sum(map(len, start))
            start.append(block.frames[: _START_FRAMES - kept])
        advance(len(block.frames))

    streamed: list[Streamed] = []
    for reader in readers:
        streamed += stream(cell, reader, watch)
    by_name: dict[str, list[Streamed]] = {}
    for part in streamed:
        by_name.setdefault(part.name, []).append(part)
    by_recording = {
        name: scores.score(_outputs(parts), _labels(parts), threshold)
        for name, parts in by_name.items()
        if 0 < _labels(parts).mean() < 1
    }
    evaluation = Evaluation(
        overall=scores.score(_outputs(streamed), _labels(streamed), threshold),
        by_recording=by_recording,
        by_stream_age=_by_stream_age(streamed),
        forgetting_s=_forgetting_s(cell, np.concatenate(start), readers[0].rate_hz),
>>>>>>> recordings
    )
    return evaluation, streamed


<<<<<<< HEAD
_Score = Callable[["NDArray[np.float32]", "NDArray[np.float32]"], Scores]


def _scored_outputs(bundle: Bundle) -> dict[str, slice]:
    """Returns what is scored, by name: its columns of the outputs."""
    if bundle.card.kind == "classes":
        return {ALL_OUTPUTS: slice(None)}
    names = bundle.interface.output_names
    return {name: slice(column, column + 1) for column, name in enumerate(names)}


def _output_scores(streamed: Sequence[Streamed], columns: slice, score: _Score) -> OutputScores:
    by_name: dict[str, list[Streamed]] = {}
    for part in streamed:
        by_name.setdefault(part.recording.name, []).append(part)
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
=======
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


def _outputs(streamed: Sequence[Streamed]) -> NDArray[np.float32]:
    return np.concatenate([part.outputs[part.scored] for part in streamed])
>>>>>>> recordings


def _labels(streamed: Sequence[Streamed]) -> NDArray[np.float32]:
    labels = []
    for part in streamed:
        assert part.labels is not None
        labels.append(part.labels[part.scored])
    return np.concatenate(labels)


<<<<<<< HEAD
def _by_stream_age(
    streamed: Sequence[Streamed], columns: slice, score: _Score
) -> dict[str, float]:
    """Returns one measure of the frames between two ages of the stream, both in seconds."""
    timed = [(part.recording.times, part.scored) for part in streamed]
=======
def _by_stream_age(streamed: Sequence[Streamed]) -> dict[str, float]:
    """Returns the ROC AUC of the frames between two ages of the stream, both in seconds."""
    timed = [(part.times, part.scored) for part in streamed]
>>>>>>> recordings
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

"""How a bundle does on labelled recordings, streamed one frame at a time as in production."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model.bundle import Bundle
from tickcell.model.cell import Cell
from tickcell.model.keras import agreement, scores
from tickcell.model.keras.scores import ScoreError, Scores
from tickcell.model.recording import Recording
from tickcell.model.recording.labels import Labelling

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The carried state is compared at stream lengths that double.
_FIRST_LENGTH_S = 15.0
_PUSH = 0.5
_SAME = 1e-3

# What is scored is named: an output, or all of them where they are of classes.
ALL_OUTPUTS = "classes"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """A recording and the outputs of its frames, `[T, O]`."""

    recording: Recording
    outputs: NDArray[np.float32]

    @property
    def scored(self) -> slice:
        """The frames to score: all, or the last where the label is of the whole recording."""
        return slice(-1 if self.recording.one_label else 0, None)


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


def evaluate(bundle: Bundle, recordings: Sequence[Recording]) -> tuple[Evaluation, list[Streamed]]:
    """Streams labelled recordings and scores the outputs.

    Args:
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
    )
    return evaluation, streamed


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


def _labels(streamed: Sequence[Streamed]) -> NDArray[np.float32]:
    labels = []
    for part in streamed:
        assert part.recording.labels is not None
        labels.append(part.recording.labels[part.scored])
    return np.concatenate(labels)


def _by_stream_age(
    streamed: Sequence[Streamed], columns: slice, score: _Score
) -> dict[str, float]:
    """Returns one measure of the frames between two ages of the stream, both in seconds."""
    timed = [(part.recording.times, part.scored) for part in streamed]
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

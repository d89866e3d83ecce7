"""How a bundle does on labelled recordings, streamed one frame at a time as in production."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model.bundle import Bundle
from tickcell.model.cell import Cell
from tickcell.model.keras import agreement, scores
from tickcell.model.keras.scores import ScoreError, Scores
from tickcell.model.recording import Recording

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The carried state is compared at stream lengths that double.
_FIRST_LENGTH_S = 15.0
_PUSH = 0.5
_SAME = 1e-3


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """A recording and the outputs of its frames, `[T]`."""

    recording: Recording
    outputs: NDArray[np.float32]

    @property
    def scored(self) -> slice:
        """The frames to score: all, or the last where the label is of the whole recording."""
        return slice(-1 if self.recording.one_label else 0, None)


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """How a bundle does.

    Attributes:
      overall: over the frames of all recordings; of one with one label, the last frame.
      by_recording: by a recording's name, which all sequences of a file share; without
        those in which a label is missing.
      by_stream_age: the ROC AUC by the seconds since the stream began, so that a network
        which loses its way over time is found out.
      forgetting_s: seconds until outputs are the same to 0.001 after the state was pushed
        hard, at the worst of some places in the first recording; None if half of it is
        too short to see that.
    """

    overall: Scores
    by_recording: dict[str, Scores]
    by_stream_age: dict[str, float]
    forgetting_s: float | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the evaluation as plain data."""
        return dataclasses.asdict(self)


def stream(cell: Cell, recording: Recording) -> Streamed:
    """Steps through a recording from the initial state; takes the first output."""
    outputs = np.empty(len(recording), np.float32)
    state = cell.initial_state()
    for index, frame in enumerate(recording):
        output, state = cell.step(frame, state)
        outputs[index] = output[0]
    return Streamed(recording, outputs)


def evaluate(bundle: Bundle, recordings: Sequence[Recording]) -> tuple[Evaluation, list[Streamed]]:
    """Streams labelled recordings and scores the outputs.

    Raises:
      ScoreError: a recording has no labels, or all of them together lack one of the two.
    """
    for recording in recordings:
        if recording.labels is None:
            raise ScoreError(f"{recording.name}: has no labels to compare the outputs with.")
    cell = bundle.cell()
    threshold = bundle.card.threshold
    streamed = [stream(cell, recording) for recording in recordings]
    by_name: dict[str, list[Streamed]] = {}
    for part in streamed:
        by_name.setdefault(part.recording.name, []).append(part)
    by_recording = {
        name: scores.score(_outputs(parts), _labels(parts), threshold)
        for name, parts in by_name.items()
        if 0 < _labels(parts).mean() < 1
    }
    first = recordings[0]
    forgetting_steps = agreement.forgetting_steps(cell, first.frames, push=_PUSH, within=_SAME)
    is_forgotten = forgetting_steps < len(first) // 2
    evaluation = Evaluation(
        overall=scores.score(_outputs(streamed), _labels(streamed), threshold),
        by_recording=by_recording,
        by_stream_age=_by_stream_age(streamed),
        forgetting_s=forgetting_steps / first.rate_hz if is_forgotten else None,
    )
    return evaluation, streamed


def _outputs(streamed: Sequence[Streamed]) -> NDArray[np.float32]:
    return np.concatenate([part.outputs[part.scored] for part in streamed])


def _labels(streamed: Sequence[Streamed]) -> NDArray[np.float32]:
    labels = []
    for part in streamed:
        assert part.recording.labels is not None
        labels.append(part.recording.labels[part.scored])
    return np.concatenate(labels)


def _by_stream_age(streamed: Sequence[Streamed]) -> dict[str, float]:
    """Returns the ROC AUC of the frames between two ages of the stream, both in seconds."""
    timed = [(part.recording.times, part.scored) for part in streamed]
    ages = np.concatenate([times[scored] - times[0] for times, scored in timed])
    outputs, positive = _outputs(streamed), _labels(streamed) == 1
    by_age = {}
    start, end = 0.0, _FIRST_LENGTH_S
    while start <= ages.max():
        chosen = (ages >= start) & (ages < end)
        if 0 < positive[chosen].sum() < chosen.sum():
            auc = scores.roc_auc(outputs[chosen], positive[chosen])
            by_age[f"{start:.0f}-{end:.0f} s"] = auc
        start, end = end, 2 * end
    return by_age

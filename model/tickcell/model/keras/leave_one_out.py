"""Leave-one-recording-out: trained on all recordings but one, and scored on that one.

Nothing of the recording that is left out is used in training: no normalisation, no
choice of the epoch at which to stop. Beside the network stand what any network must
beat, trained on the same recordings.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tickcell.model.keras import archive, baselines, evaluation, export, scores, training
from tickcell.model.keras.description import Description
from tickcell.model.keras.evaluation import Streamed
from tickcell.model.keras.recipe import Recipe
from tickcell.model.keras.windows import WindowError
from tickcell.model.recording import Recording


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """One number each for ranking and precision.

    Attributes:
      roc_auc: see `scores.Scores`.
      average_precision: see `scores.Scores`.
    """

    roc_auc: float
    average_precision: float

    def __str__(self) -> str:
        return f"{self.roc_auc:7.3f}  {self.average_precision:5.3f}"


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """How networks and baselines do on one recording that none of them has seen.

    Attributes:
      name: of the recording.
      by_seed: the networks, by their seeds.
      by_baseline: the baselines, by their names.
    """

    name: str
    by_seed: dict[int, Mark]
    by_baseline: dict[str, Mark]

    @property
    def mean(self) -> Mark:
        """The mean over the seeds."""
        marks = self.by_seed.values()
        return Mark(
            float(np.mean([mark.roc_auc for mark in marks])),
            float(np.mean([mark.average_precision for mark in marks])),
        )

    def to_table(self) -> str:
        """Returns lines for a person, each baseline's with how the network's mean compares."""
        width = max(len(name) for name in self.by_baseline)
        lines = [f"left out: {self.name}", f"{'':{width}}  ROC AUC     AP"]
        for seed, mark in self.by_seed.items():
            lines.append(f"{f'network, seed {seed}':{width}}  {mark}")
        lines.append(f"{'network, mean':{width}}  {self.mean}")
        for name, mark in self.by_baseline.items():
            lines.append(f"{name:{width}}  {mark}  {_compared(self.mean, mark)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns it as plain data, the mean included."""
        return {**dataclasses.asdict(self), "mean": dataclasses.asdict(self.mean)}


def leave_one_out(
    recordings: Sequence[Recording],
    recipe: Recipe,
    seeds: Sequence[int],
    description: Description,
    directory: pathlib.Path,
    report: Callable[[str], None],
) -> list[tuple[LeftOut, Streamed]]:
    """Trains a network for each recording left out and each seed.

    Args:
      recordings: two or more, labelled.
      recipe: how to train; its seed is replaced.
      seeds: one network each.
      description: of the network; its bundle is what is streamed.
      directory: gets a run for each network.
      report: is told of each network as it is done.

    Returns:
      For each recording left out, the marks, and the last network's outputs.

    Raises:
      WindowError: there are fewer than two recordings.
      TrainingError: a network could not be trained.
    """
    if len(recordings) < 2:
        raise WindowError(f"recordings: got {len(recordings)}, expected two or more to leave one.")
    results = []
    for left in recordings:
        others = [recording for recording in recordings if recording is not left]
        by_baseline = {
            baseline.name: _baseline_mark(baseline, others, left)
            for baseline in (baselines.HorizontalMean(), baselines.LogisticRegression())
        }
        by_seed = {}
        for seed in seeds:
            run = directory / f"without-{pathlib.Path(left.name).stem}-seed-{seed}"
            training.train(dataclasses.replace(recipe, seed=seed), others, [], run)
            # Few random frames, since all of the recording is compared too.
            bundle = export.export(
                archive.load(run / "model.keras"),
                description,
                left.frames,
                random_step_count=1000,
            )
            [streamed] = evaluation.stream(bundle.cell(), left.reader())
            by_seed[seed] = _mark(streamed.outputs, left)
            report(
                f"without {left.name}, seed {seed}: ROC AUC {by_seed[seed].roc_auc:.3f}, "
                f"AP {by_seed[seed].average_precision:.3f}"
            )
        results.append((LeftOut(left.name, by_seed, by_baseline), streamed))
    return results


def _baseline_mark(baseline: Any, others: Sequence[Recording], left: Recording) -> Mark:
    baseline.fit(others)
    return _mark(baseline.outputs(left), left)


def _mark(outputs: Any, recording: Recording) -> Mark:
    assert recording.labels is not None
    positive = recording.labels == 1
    return Mark(scores.roc_auc(outputs, positive), scores.average_precision(outputs, positive))


def _compared(network: Mark, baseline: Mark) -> str:
    """Says in which of the two measures a network beats a baseline."""
    beaten = [
        name
        for name, ours, theirs in (
            ("ROC AUC", network.roc_auc, baseline.roc_auc),
            ("AP", network.average_precision, baseline.average_precision),
        )
        if ours > theirs
    ]
    return f"beaten by the network in {' and '.join(beaten)}" if beaten else "not beaten"

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
from tickcell.model.recording.labels import Labelling


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """How networks and baselines do on one recording that none of them has seen.

    Attributes:
      name: of the recording.
      by_seed: the `scores.marks` of the networks, by their seeds.
      by_baseline: those of the baselines, by their names.
    """

    name: str
    by_seed: dict[int, dict[str, float]]
    by_baseline: dict[str, dict[str, float]]

    @property
    def mean(self) -> dict[str, float]:
        """The means over the seeds."""
        return self._over_seeds(np.mean)

    @property
    def deviation(self) -> dict[str, float]:
        """The standard deviations over the seeds, which are a sample; 0 for a single one."""
        return self._over_seeds(lambda of: np.std(of, ddof=1) if len(of) > 1 else 0.0)

    def _over_seeds(self, measure: Callable[[list[float]], Any]) -> dict[str, float]:
        marks = [*self.by_seed.values()]
        return {name: float(measure([each[name] for each in marks])) for name in marks[0]}

    def to_table(self) -> str:
        """Returns lines for a person, each baseline's with how the network's mean compares."""
        rows = {
            **{f"network, seed {seed}": marks for seed, marks in self.by_seed.items()},
            "network, mean": self.mean,
            "network, deviation": self.deviation,
            **self.by_baseline,
        }
        width = max(map(len, rows))
        titles = "  ".join(f"{scores.TITLES[name]:>8}" for name in self.mean)
        lines = [f"left out: {self.name}", f"{'':{width}}  {titles}"]
        for title, marks in rows.items():
            line = f"{title:{width}}  " + "  ".join(f"{mark:8.3f}" for mark in marks.values())
            is_baseline = title in self.by_baseline
            lines.append(f"{line}  {_compared(self.mean, marks)}" if is_baseline else line)
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns it as plain data, mean and deviation included."""
        return {**dataclasses.asdict(self), "mean": self.mean, "deviation": self.deviation}


def leave_one_out(
    recordings: Sequence[Recording],
    recipe: Recipe,
    seeds: Sequence[int],
    description: Description,
    directory: pathlib.Path,
    labelling: Labelling,
    report: Callable[[str], None],
) -> list[tuple[LeftOut, Streamed]]:
    """Trains a network for each recording left out and each seed.

    Args:
      recordings: two or more, labelled.
      recipe: how to train; its seed is replaced.
      seeds: one network each.
      description: of the network; its bundle is what is streamed.
      directory: gets a run for each network.
      labelling: what the labels are.
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
        by_baseline = {}
        for baseline in baselines.fitting(labelling, left.sensor_names):
            baseline.fit(others)
            by_baseline[baseline.name] = _marks(baseline.outputs(left), left.labels, labelling)
        by_seed = {}
        for seed in seeds:
            run = directory / f"without-{pathlib.Path(left.name).stem}-seed-{seed}"
            training.train(dataclasses.replace(recipe, seed=seed), others, [], run, labelling)
            # Few random frames, since all of the recording is compared too.
            bundle = export.export(
                archive.load(run / "model.keras"),
                description,
                left.frames,
                random_step_count=1000,
            )
            [streamed] = evaluation.stream(bundle.cell(), left.reader())
            by_seed[seed] = _marks(streamed.outputs, left.labels, labelling)
            told = ", ".join(
                f"{scores.TITLES[name]} {mark:.3f}" for name, mark in by_seed[seed].items()
            )
            report(f"without {left.name}, seed {seed}: {told}")
        results.append((LeftOut(left.name, by_seed, by_baseline), streamed))
    return results


def _marks(outputs: Any, labels: Any, labelling: Labelling) -> dict[str, float]:
    return scores.marks(scores.score(outputs, labels, labelling))


def _compared(network: dict[str, float], baseline: dict[str, float]) -> str:
    """Says in which measures a network beats a baseline."""
    beaten = [
        scores.TITLES[name]
        for name, ours in network.items()
        if (ours < baseline[name] if name in scores.BETTER_IF_LOWER else ours > baseline[name])
    ]
    return f"beaten by the network in {' and '.join(beaten)}" if beaten else "not beaten"

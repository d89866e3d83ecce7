"""The mark that a network for simulated drives must reach before it is kept or exported."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tickcell.model.bundle import Bundle
from tickcell.model.keras import baselines, datasets, evaluation, scores
from tickcell.model.recording import Recording

MIN_ROC_AUC = 0.9
MIN_LEAD = 0.1

_HELD_OUT_COUNT = 8
_HELD_OUT_S = 300.0


class QualityError(ValueError):
    """A network is not good enough to be kept."""


def held_out() -> list[Recording]:
    """Records the drives of which nothing is learnt and by which nothing is chosen."""
    return datasets.simulated(datasets.HELD_OUT_SEED, _HELD_OUT_COUNT, _HELD_OUT_S)


def single_frame_roc_auc(training: Sequence[Recording], held_out: Sequence[Recording]) -> float:
    """Trains the best network we know that sees one frame, and scores it on held-out drives."""
    model = baselines.SingleFrame()
    model.fit(training)
    outputs = np.concatenate([model.outputs(recording) for recording in held_out])
    return scores.roc_auc(outputs, _labels(held_out) == 1)


def measure(bundle: Bundle, held_out: Sequence[Recording], single_frame: float) -> dict[str, Any]:
    """Streams held-out drives through a bundle.

    Args:
      bundle: a network for simulated drives.
      held_out: what `held_out` gave.
      single_frame: what `single_frame_roc_auc` gave.

    Returns:
      The card's metrics of held-out drives.

    Raises:
      QualityError: the network is not good enough.
    """
    measured, _ = evaluation.evaluate(bundle, held_out)
    overall = measured.overall
    lead = overall.roc_auc - single_frame
    if overall.roc_auc < MIN_ROC_AUC or lead < MIN_LEAD:
        raise QualityError(
            f"held-out drives, streamed: got ROC AUC {overall.roc_auc:.3f} and a lead of "
            f"{lead:.3f} over one frame at a time, expected at least {MIN_ROC_AUC} and {MIN_LEAD}; "
            "train for longer or on more drives."
        )
    return {
        "seeds": [datasets.HELD_OUT_SEED + number for number in range(_HELD_OUT_COUNT)],
        "seconds_each": _HELD_OUT_S,
        "streamed": dataclasses.asdict(overall),
        "roc_auc_by_stream_age": measured.by_stream_age,
        "single_frame_roc_auc": single_frame,
        "lead": lead,
    }


def _labels(recordings: Sequence[Recording]) -> Any:
    return np.concatenate([recording.labels for recording in recordings])

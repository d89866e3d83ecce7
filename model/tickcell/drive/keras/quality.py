"""The mark that a network for simulated drives must reach: the gate `drive` of an export."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tickcell.drive.keras import datasets
from tickcell.drive.keras.datasets import DRIVE, Drives
from tickcell.model.bundle import Bundle
from tickcell.model.keras import baselines, evaluation, scores
from tickcell.model.keras.scores import BinaryScores
from tickcell.model.recording import Recording

MIN_ROC_AUC = 0.9
MIN_LEAD = 0.1


class QualityError(ValueError):
    """A network is not good enough."""


def judged(bundle: Bundle) -> Bundle:
    """Returns a bundle whose card says how it does on held-out drives.

    It is compared with the best network we know that sees one frame, trained anew on
    the drives that the bundle's model was trained on.

    Raises:
      QualityError: it was not trained on simulated drives, or is not good enough.
    """
    source = bundle.card.training.get("source", {})
    if source.get("data") != [DRIVE]:
        raise QualityError(
            f"{bundle.card.name}: was not trained with --data {DRIVE}, which the gate {DRIVE} "
            "requires; export it without the gate."
        )
    held_out = datasets.held_out()
    single_frame = single_frame_roc_auc(Drives.from_dict(source).load().training, held_out)
    metrics = {**bundle.card.metrics, "held_out_drives": measure(bundle, held_out, single_frame)}
    return dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, metrics=metrics))


def single_frame_roc_auc(training: Sequence[Recording], held_out: Sequence[Recording]) -> float:
    """Trains the best network we know that sees one frame, and scores it on held-out drives."""
    keras.utils.set_random_seed(0)
    model = baselines.SingleFrame()
    model.fit(training)
    outputs = np.concatenate([model.outputs(recording) for recording in held_out])
    return scores.score_binary(outputs[:, 0], _labels(held_out)).roc_auc


def measure(bundle: Bundle, held_out: Sequence[Recording], single_frame: float) -> dict[str, Any]:
    """Streams held-out drives through a bundle.

    Args:
      bundle: a network for simulated drives.
      held_out: what `datasets.held_out` gave.
      single_frame: what `single_frame_roc_auc` gave.

    Returns:
      The card's metrics of held-out drives.

    Raises:
      QualityError: the network is not good enough.
    """
    measured, _ = evaluation.evaluate(bundle, held_out)
    overall = measured.first.overall
    assert isinstance(overall, BinaryScores)
    lead = overall.roc_auc - single_frame
    if overall.roc_auc < MIN_ROC_AUC or lead < MIN_LEAD:
        raise QualityError(
            f"held-out drives, streamed: got ROC AUC {overall.roc_auc:.3f} and a lead of "
            f"{lead:.3f} over one frame at a time, expected at least {MIN_ROC_AUC} and {MIN_LEAD}; "
            "train for longer or on more drives, or export it without the gate."
        )
    return {
        "seeds": list(datasets.HELD_OUT_SEEDS),
        "seconds_each": datasets.HELD_OUT_S,
        "streamed": dataclasses.asdict(overall),
        "roc_auc_by_stream_age": measured.first.by_stream_age,
        "single_frame_roc_auc": single_frame,
        "lead": lead,
    }


def _labels(recordings: Sequence[Recording]) -> Any:
    return np.concatenate([recording.labels for recording in recordings])

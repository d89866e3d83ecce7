"""How well outputs tell labels, for each kind of output; the measures are scikit-learn's.

A label that is NaN is none: its frame is not scored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from sklearn import metrics

from tickcell.model.card import THRESHOLD
from tickcell.model.recording.labels import Labelling

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ScoreError(ValueError):
    """Outputs that cannot be scored."""


@dataclasses.dataclass(frozen=True, slots=True)
class BinaryScores:
    """How well an output, such as a probability, tells labels of 0 and 1.

    Attributes:
      frame_count: how many frames.
      positive_share: the share of label 1.
      accuracy: the share of frames on the right side of the threshold.
      roc_auc: the chance that a frame of label 1 has a higher output than one of label 0.
      average_precision: the precision, averaged over the recalls at which it was had.
      true_positive: frames of label 1 at or above the threshold; and so on.
    """

    frame_count: int
    positive_share: float
    accuracy: float
    roc_auc: float
    average_precision: float
    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


@dataclasses.dataclass(frozen=True, slots=True)
class ClassScores:
    """How well outputs, one per class, tell the class.

    Attributes:
      frame_count: how many frames.
      accuracy: the share of frames whose highest output is that of their class.
      macro_f1: the mean of the classes' F1, over those that occur or are said to.
      roc_auc: by class, that of its output against all others; without a class that does
        not occur, or that alone does.
      average_precision: likewise.
      confusion: frames by their class (rows) and the class that was said (columns).
    """

    frame_count: int
    accuracy: float
    macro_f1: float
    roc_auc: dict[str, float]
    average_precision: dict[str, float]
    confusion: list[list[int]]


@dataclasses.dataclass(frozen=True, slots=True)
class NumberScores:
    """How well an output tells a number.

    Attributes:
      frame_count: how many frames.
      mae: the mean of |output - label|, in the label's unit.
      rmse: the root of the mean of (output - label) squared, in the label's unit.
      r2: the share of the labels' variance that the outputs explain; at most 1, and below 0
        where their mean would do better. None where all labels are the same.
    """

    frame_count: int
    mae: float
    rmse: float
    r2: float | None


Scores: TypeAlias = BinaryScores | ClassScores | NumberScores


def score_binary(
    outputs: NDArray[Any], labels: NDArray[Any], threshold: float = THRESHOLD
) -> BinaryScores:
    """Scores outputs `[N]` against labels `[N]` of 0 and 1.

    Raises:
      ScoreError: one of the two labels does not occur, or an output is not finite.
    """
    outputs, labels = _labelled(outputs, labels)
    positive = labels == 1
    count, positive_count = len(labels), int(positive.sum())
    if positive_count in (0, count):
        raise ScoreError(
            f"scores: got {positive_count} of {count} frames with label 1, expected both labels."
        )
    (true_negative, false_positive), (false_negative, true_positive) = metrics.confusion_matrix(
        positive, outputs >= threshold
    ).tolist()
    return BinaryScores(
        frame_count=count,
        positive_share=positive_count / count,
        accuracy=(true_positive + true_negative) / count,
        roc_auc=float(metrics.roc_auc_score(positive, outputs)),
        average_precision=float(metrics.average_precision_score(positive, outputs)),
        true_positive=true_positive,
        false_positive=false_positive,
        true_negative=true_negative,
        false_negative=false_negative,
    )


def score_classes(
    outputs: NDArray[Any], labels: NDArray[Any], classes: Sequence[str]
) -> ClassScores:
    """Scores outputs `[N, C]` against labels `[N]`, each the place of its class.

    Raises:
      ScoreError: there is no labelled frame, or an output is not finite.
    """
    outputs, labels = _labelled(outputs, labels)
    said, places = outputs.argmax(axis=1), range(len(classes))
    told = {
        name: (labels == place, outputs[:, place])
        for place, name in enumerate(classes)
        if 0 < (labels == place).sum() < len(labels)
    }
    return ClassScores(
        frame_count=len(labels),
        accuracy=float((said == labels).mean()),
        macro_f1=float(metrics.f1_score(labels.astype(np.intp), said, average="macro")),
        roc_auc={name: float(metrics.roc_auc_score(*of)) for name, of in told.items()},
        average_precision={
            name: float(metrics.average_precision_score(*of)) for name, of in told.items()
        },
        confusion=metrics.confusion_matrix(labels, said, labels=places).tolist(),
    )


def score_numbers(outputs: NDArray[Any], labels: NDArray[Any]) -> NumberScores:
    """Scores outputs `[N]` against labels `[N]`.

    Raises:
      ScoreError: there is no labelled frame, or an output is not finite.
    """
    outputs, labels = _labelled(outputs, labels)
    return NumberScores(
        frame_count=len(labels),
        mae=float(metrics.mean_absolute_error(labels, outputs)),
        rmse=float(metrics.root_mean_squared_error(labels, outputs)),
        r2=float(metrics.r2_score(labels, outputs)) if np.ptp(labels) else None,
    )


def _labelled(outputs: NDArray[Any], labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the outputs and labels of the frames that have a label."""
    is_labelled = ~np.isnan(labels)
    if not is_labelled.any():
        raise ScoreError(f"scores: none of {len(labels)} frames has a label.")
    if not np.isfinite(outputs[is_labelled]).all():
        raise ScoreError("scores: an output is not a finite number.")
    return outputs[is_labelled].astype(np.float64), labels[is_labelled].astype(np.float64)


def marks(of: Scores) -> dict[str, float]:
    """Returns the measures by which networks are compared, the first of them first.

    Those of classes are the means over the classes that occur.
    """
    if isinstance(of, BinaryScores):
        return {"roc_auc": of.roc_auc, "average_precision": of.average_precision}
    if isinstance(of, ClassScores):
        return {
            "roc_auc": float(np.mean([*of.roc_auc.values()])),
            "average_precision": float(np.mean([*of.average_precision.values()])),
            "macro_f1": of.macro_f1,
        }
    r2 = {} if of.r2 is None else {"r2": of.r2}
    return {"mae": of.mae, "rmse": of.rmse, **r2}


TITLES = {
    "roc_auc": "ROC AUC",
    "average_precision": "AP",
    "macro_f1": "macro F1",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R2",
}
BETTER_IF_LOWER = {"mae", "rmse"}


def score(
    outputs: NDArray[Any],
    labels: NDArray[Any],
    labelling: Labelling,
    threshold: float | None = None,
) -> Scores:
    """Scores outputs `[N, O]` against labels `[N]` as the kind of the labels asks.

    Args:
      outputs: of classes one for each, else the first is scored.
      labels: as the labelling encodes them.
      labelling: what they are.
      threshold: of a probability; 0.5 without it.

    Raises:
      ScoreError: see the three functions above.
    """
    if labelling.kind == "classes":
        return score_classes(outputs, labels, labelling.classes)
    if labelling.kind == "number":
        return score_numbers(outputs[:, 0], labels)
    return score_binary(outputs[:, 0], labels, THRESHOLD if threshold is None else threshold)

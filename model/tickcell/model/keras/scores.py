"""How well outputs tell labels, for each kind of output.

The measures are those of scikit-learn, to the last digits. They are computed in parts, since a
recording of hours has millions of frames, of each of which scikit-learn takes 100 bytes.

A label that is NaN is none: its frame is not scored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tickcell.model.card import THRESHOLD
from tickcell.model.recording.labels import Labelling

if TYPE_CHECKING:
    from numpy.typing import NDArray


# So many frames are scored at a time.
_PART = 1 << 16


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
    _check(outputs, labels)
    positive, negative = (_sorted(outputs[labels == label]) for label in (1, 0))
    count = len(positive) + len(negative)
    if not (len(positive) and len(negative)):
        raise ScoreError(
            f"scores: got {len(positive)} of {count} frames with label 1, expected both labels."
        )
    false_negative, true_negative = (
        int(np.searchsorted(part, np.asarray(threshold, part.dtype)))
        for part in (positive, negative)
    )
    true_positive, false_positive = len(positive) - false_negative, len(negative) - true_negative
    roc_auc, average_precision = _ranking(positive, negative)
    return BinaryScores(
        frame_count=count,
        positive_share=len(positive) / count,
        accuracy=(true_positive + true_negative) / count,
        roc_auc=roc_auc,
        average_precision=average_precision,
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
    _check(outputs, labels)
    confusion = np.zeros((len(classes), len(classes)), int)
    for part, expected in _parts(outputs, labels):
        np.add.at(confusion, (expected.astype(np.intp), part.argmax(axis=1)), 1)
    of_class, said, right = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    occurs, count = of_class + said > 0, int(confusion.sum())
    ranking = {
        name: _ranking(_sorted(column[labels == place]), _sorted(column[_others(labels, place)]))
        for place, (name, column) in enumerate(zip(classes, outputs.T, strict=True))
        if 0 < of_class[place] < count
    }
    return ClassScores(
        frame_count=count,
        accuracy=float(right.sum() / count),
        macro_f1=float(np.mean(2 * right[occurs] / (of_class + said)[occurs])),
        roc_auc={name: roc_auc for name, (roc_auc, _) in ranking.items()},
        average_precision={name: precision for name, (_, precision) in ranking.items()},
        confusion=confusion.tolist(),
    )


def score_numbers(outputs: NDArray[Any], labels: NDArray[Any]) -> NumberScores:
    """Scores outputs `[N]` against labels `[N]`.

    Raises:
      ScoreError: there is no labelled frame, or an output is not finite.
    """
    _check(outputs, labels)
    count = sum(len(expected) for _, expected in _parts(outputs, labels))
    mean = sum(float(expected.sum()) for _, expected in _parts(outputs, labels)) / count
    absolute = squared = variance = 0.0
    for part, expected in _parts(outputs, labels):
        absolute += float(np.abs(part - expected).sum())
        squared += float(((part - expected) ** 2).sum())
        variance += float(((expected - mean) ** 2).sum())
    return NumberScores(
        frame_count=count,
        mae=absolute / count,
        rmse=float(np.sqrt(squared / count)),
        # The mean of equal labels may differ from them in its last bits.
        r2=1 - squared / variance if is_varied(labels) else None,
    )


def is_varied(labels: NDArray[Any]) -> bool:
    """Says whether two labels differ; NaN is none."""
    lowest, highest = (of.reduce(labels, initial=np.nan) for of in (np.fmin, np.fmax))
    return bool(lowest < highest)


def _check(outputs: NDArray[Any], labels: NDArray[Any]) -> None:
    """Refuses what cannot be scored."""
    count = 0
    for part, _ in _parts(outputs, labels):
        count += len(part)
        if not np.isfinite(part).all():
            raise ScoreError("scores: an output is not a finite number.")
    if not count:
        raise ScoreError(f"scores: none of {len(labels)} frames has a label.")


def _parts(
    outputs: NDArray[Any], labels: NDArray[Any]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yields the outputs and labels of the frames that have a label, some at a time."""
    for start in range(0, len(labels), _PART):
        part = labels[start : start + _PART]
        is_labelled = ~np.isnan(part)
        yield (
            outputs[start : start + _PART][is_labelled].astype(np.float64),
            part[is_labelled].astype(np.float64),
        )


def _others(labels: NDArray[Any], place: int) -> NDArray[np.bool_]:
    """Says which frames are of another class than that; those without a label are of none."""
    return np.asarray((labels != place) & ~np.isnan(labels))


def _sorted(outputs: NDArray[Any]) -> NDArray[Any]:
    """Sorts outputs that nobody else has, in place."""
    outputs.sort()
    return outputs


def _ranking(positive: NDArray[Any], negative: NDArray[Any]) -> tuple[float, float]:
    """Returns the ROC AUC and the average precision of outputs.

    Args:
      positive: the outputs of frames of label 1, sorted; one or more.
      negative: those of label 0, likewise.
    """
    pairs = precisions = 0.0
    for start in range(0, len(positive), _PART):
        part = positive[start : start + _PART]
        below, up_to = (np.searchsorted(negative, part, side) for side in ("left", "right"))
        # The pairs of a positive and a negative that are ranked rightly; ties count as half.
        pairs += float(below.sum() + up_to.sum()) / 2
        # With the threshold at a positive's output.
        true_positive = len(positive) - np.searchsorted(positive, part, "left")
        false_positive = len(negative) - below
        precisions += float((true_positive / (true_positive + false_positive)).sum())
    return pairs / (len(positive) * len(negative)), precisions / len(positive)


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

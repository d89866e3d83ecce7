"""How well outputs tell labels apart, in numpy."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ScoreError(ValueError):
    """Outputs that cannot be scored."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """How well the outputs of some frames tell their labels.

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


def score(
    outputs: NDArray[np.float32], labels: NDArray[np.float32], threshold: float = 0.5
) -> Scores:
    """Scores outputs `[N]` against labels `[N]` of 0 and 1.

    Raises:
      ScoreError: one of the two labels does not occur, or an output is not finite.
    """
    if not np.isfinite(outputs).all():
        raise ScoreError("scores: an output is not a finite number.")
    positive = labels == 1
    count, positive_count = len(labels), int(positive.sum())
    if positive_count in (0, count):
        raise ScoreError(
            f"scores: got {positive_count} of {count} frames with label 1, expected both labels."
        )
    above = outputs >= threshold
    return Scores(
        frame_count=count,
        positive_share=positive_count / count,
        accuracy=float((above == positive).mean()),
        roc_auc=roc_auc(outputs, positive),
        average_precision=average_precision(outputs, positive),
        true_positive=int((above & positive).sum()),
        false_positive=int((above & ~positive).sum()),
        true_negative=int((~above & ~positive).sum()),
        false_negative=int((~above & positive).sum()),
    )


def roc_auc(outputs: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Returns the area under the ROC curve; equal outputs count half (Mann-Whitney U)."""
    _, group, sizes = np.unique(outputs, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(sizes)
    ranks = (last_rank - (sizes - 1) / 2)[group]
    count = int(positive.sum())
    u = ranks[positive].sum() - count * (count + 1) / 2
    return float(u / (count * (len(outputs) - count)))


def average_precision(outputs: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Returns the sum over thresholds of precision times the recall gained there."""
    order = np.argsort(-outputs, kind="stable")
    hits = np.cumsum(positive[order])
    # Frames of equal output come in together, whatever their order.
    ends = np.flatnonzero(np.diff(outputs[order], append=np.nan) != 0)
    precision = hits[ends] / (ends + 1)
    recall_gained = np.diff(hits[ends], prepend=0) / hits[-1]
    return float((precision * recall_gained).sum())

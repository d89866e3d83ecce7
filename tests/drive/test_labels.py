"""The label means something, and one frame is not enough to tell it.

Both models are logistic regressions, so that what differs is what they see: the one a single
frame with its squares and lengths, the other means and deviations of the last seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tickcell import drive
from tickcell.drive import Drive
from tickcell.model.recording import Recording

# It draws drives of many minutes.
pytestmark = pytest.mark.lengthy

Seen = Callable[[Recording], np.ndarray]

TRAINING_SEEDS = range(100, 107)
TEST_SEEDS = range(200, 206)


def one_frame(recorded: Recording) -> np.ndarray:
    """Returns a row a frame: the readings, their squares, the lengths of the vectors."""
    frames = recorded.frames.astype(float)
    lengths = [
        np.linalg.norm(frames[:, part], axis=1) for part in (slice(2), slice(3), slice(6, 9))
    ]
    return np.column_stack([frames, frames**2, *lengths])


def last_seconds(recorded: Recording) -> np.ndarray:
    """Returns a row a frame: means, deviations, and what the mean acceleration did lately."""
    frames = recorded.frames[:, [0, 1, 2, 6, 7, 8, 9]].astype(float)
    columns = []
    for window in (12, 25, 50, 100):
        means = trailing_mean(frames, window)
        deviations = np.sqrt(np.maximum(0, trailing_mean(frames**2, window) - means**2))
        columns += [deviations, np.hypot(means[:, 0], means[:, 1])[:, np.newaxis]]
    smooth = np.hypot(*trailing_mean(frames[:, :2], 25).T)
    for window in (50, 100, 150):
        padded = np.concatenate([np.full(window - 1, smooth[0]), smooth])
        recent = np.lib.stride_tricks.sliding_window_view(padded, window)
        columns += [recent.max(axis=1)[:, np.newaxis], recent.min(axis=1)[:, np.newaxis]]
    return np.column_stack(columns)


def trailing_mean(series: np.ndarray, window: int) -> np.ndarray:
    padded = np.concatenate([np.repeat(series[:1], window, axis=0), series])
    sums = np.cumsum(padded, axis=0)
    return np.asarray((sums[window:] - sums[:-window]) / window)


def logistic(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Fits a logistic regression by Newton's method; the last weight is the bias."""
    rows = np.column_stack([rows, np.ones(len(rows))])
    weights = np.zeros(rows.shape[1])
    for _ in range(8):
        chances = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        gradient = rows.T @ (labels - chances) - 1e-2 * weights
        curvature = (rows * (chances * (1 - chances))[:, np.newaxis]).T @ rows
        weights += np.linalg.solve(curvature + 1e-2 * np.eye(len(weights)), gradient)
    return weights


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    positive = labels == 1
    count = positive.sum()
    below = ranks[positive].sum() - count * (count + 1) / 2
    return float(below / (count * (len(labels) - count)))


@pytest.fixture(scope="module")
def recordings_of_drives() -> tuple[list[Recording], list[Recording]]:
    return (
        [drive.record(seed, 300) for seed in TRAINING_SEEDS],
        [drive.record(seed, 300) for seed in TEST_SEEDS],
    )


def held_out_auc(parts: tuple[list[Recording], list[Recording]], seen: Seen) -> float:
    """Trains on one part of the drives and returns the ROC AUC on the other."""
    (train, train_labels), (test, test_labels) = (
        (
            np.concatenate([seen(recorded) for recorded in part])[::6],
            np.concatenate([recorded.labels for recorded in part])[::6],
        )
        for part in parts
    )
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-9
    weights = logistic((train - mean) / deviation, train_labels)
    return roc_auc((test - mean) / deviation @ weights[:-1], test_labels)


def test_the_label_needs_memory(
    recordings_of_drives: tuple[list[Recording], list[Recording]],
) -> None:
    single = held_out_auc(recordings_of_drives, one_frame)
    remembered = held_out_auc(recordings_of_drives, last_seconds)

    print(f"ROC AUC from one frame {single:.3f}, from the last seconds {remembered:.3f}")
    assert remembered > 0.92
    assert remembered - single > 0.08


def test_about_a_tenth_of_the_time_is_aggressive(
    recordings_of_drives: tuple[list[Recording], list[Recording]],
) -> None:
    labels = np.concatenate([recorded.labels for part in recordings_of_drives for recorded in part])

    assert 0.07 < labels.mean() < 0.13


def test_an_aggressive_manoeuvre_lasts_seconds(
    recordings_of_drives: tuple[list[Recording], list[Recording]],
) -> None:
    durations = []
    for recorded in recordings_of_drives[0]:
        assert recorded.labels is not None
        edges = np.flatnonzero(np.diff(recorded.labels, prepend=0, append=0))
        durations += ((edges[1::2] - edges[::2]) / drive.RATE_HZ).tolist()

    assert min(durations) > 1
    assert 3 < np.median(durations) < 6
    assert max(durations) < 25


def test_calm_driving_is_never_harsh_and_aggressive_driving_often() -> None:
    car = Drive(2)
    driven = [car.tick() for _ in range(15_000)]
    harsh = np.array([tick.acceleration > 3 for tick in driven])
    label = np.array([tick.label for tick in driven])

    assert harsh[label == 0].mean() < 0.002
    assert harsh[label == 1].mean() > 0.25

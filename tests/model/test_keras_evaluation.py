"""Scores against their definitions, and evaluation by streaming."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest

from tickcell import drive
from tickcell.model.bundle import Bundle
from tickcell.model.keras import baselines, evaluation, scores
from tickcell.model.keras.evaluation import Streamed
from tickcell.model.recording import Recording

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)


@pytest.fixture(scope="module")
def recorded() -> Recording:
    return drive.record(11, 90)


def test_roc_auc_is_the_chance_of_the_right_order() -> None:
    generator = np.random.default_rng(1)
    outputs = generator.integers(0, 6, 60).astype(np.float32)  # with many ties
    positive = generator.random(60) < 0.3
    pairs = outputs[positive][:, np.newaxis] - outputs[~positive]

    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()

    assert scores.roc_auc(outputs, positive) == pytest.approx(expected)


def test_average_precision_sums_precision_over_gained_recall() -> None:
    outputs = np.array([0.9, 0.8, 0.7, 0.7, 0.1], np.float32)
    positive = np.array([True, False, True, False, True])

    # At 0.9: 1/1 of 1/3; at 0.7, both together: 2/4 of 1/3; at 0.1: 3/5 of 1/3.
    assert scores.average_precision(outputs, positive) == pytest.approx((1 + 0.5 + 0.6) / 3)


def test_confusion_counts_every_frame_once() -> None:
    outputs = np.array([0.9, 0.5, 0.2, 0.6], np.float32)
    labels = np.array([1, 0, 1, 0], np.float32)

    got = scores.score(outputs, labels, 0.5)

    counts = (got.true_positive, got.false_positive, got.true_negative, got.false_negative)
    assert counts == (1, 2, 0, 1)
    assert got.accuracy == 0.25


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_label_alone_cannot_be_scored(label: float) -> None:
    with pytest.raises(scores.ScoreError, match="expected both labels"):
        scores.score(np.zeros(5, np.float32), np.full(5, label, np.float32))


def test_evaluation_streams_frame_by_frame(recorded: Recording) -> None:
    bundle = Bundle.load()
    cell, state = bundle.cell(), bundle.cell().initial_state()
    outputs = []
    for frame in recorded:
        output, state = cell.step(frame, state)
        outputs.append(output[0])

    measured, streamed = evaluation.evaluate(bundle, [recorded])

    assert streamed[0].outputs.tobytes() == np.array(outputs, np.float32).tobytes()
    assert measured.overall == measured.by_recording[recorded.name]
    assert measured.overall.frame_count == len(recorded)


def test_ages_of_a_stream_double(recorded: Recording) -> None:
    measured, _ = evaluation.evaluate(Bundle.load(), [recorded])

    assert set(measured.by_stream_age) <= {"0-15 s", "15-30 s", "30-60 s", "60-120 s"}
    assert measured.by_stream_age


def test_a_recording_without_labels_is_named(recorded: Recording) -> None:
    bare = dataclasses.replace(recorded, labels=None)

    with pytest.raises(scores.ScoreError, match="drive-11: has no labels"):
        evaluation.evaluate(Bundle.load(), [bare])


@pytest.mark.parametrize("kind", [baselines.HorizontalMean, baselines.LogisticRegression])
def test_a_baseline_sees_no_later_frame(
    kind: type[baselines.HorizontalMean] | type[baselines.LogisticRegression], recorded: Recording
) -> None:
    baseline = kind()
    baseline.fit([recorded])
    half = len(recorded) // 2
    start = dataclasses.replace(
        recorded, frames=recorded.frames[:half], times=recorded.times[:half]
    )

    np.testing.assert_allclose(
        baseline.outputs(start), baseline.outputs(recorded)[:half], rtol=1e-9
    )


def test_a_baseline_without_its_reading_says_so(recorded: Recording) -> None:
    other = dataclasses.replace(recorded, sensor_names=tuple("abcdefghij"))

    with pytest.raises(baselines.BaselineError, match="has no reading 'lin_acc_horizontal'"):
        baselines.HorizontalMean().outputs(other)


def test_streamed_outputs_are_drawn(recorded: Recording, tmp_path: pathlib.Path) -> None:
    from tickcell.model.keras import plots

    streamed = Streamed(recorded.name, recorded.times, recorded.labels, recorded.frames[:, 0])

    plots.outputs([streamed], 0.5, tmp_path / "outputs.png")

    assert (tmp_path / "outputs.png").read_bytes().startswith(b"\x89PNG")

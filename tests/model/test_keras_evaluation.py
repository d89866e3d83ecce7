"""Scores against their definitions, and evaluation by streaming."""

from __future__ import annotations

import dataclasses
import pathlib
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from tickcell import drive
from tickcell.model.bundle import Bundle
from tickcell.model.card import Output
from tickcell.model.interface import Head
from tickcell.model.keras import baselines, evaluation, scored, scores
from tickcell.model.keras.evaluation import Streamed
from tickcell.model.outputs import Described
from tickcell.model.ranges import Ranges
from tickcell.model.recording import Block, Layout, Recording, open_recording, write_csv
from tickcell.model.recording.labels import Kind, Labelling
from tickcell.model.recording.mending import Mending

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

    got = scores.score_binary(outputs, positive.astype(np.float32))

    assert got.roc_auc == pytest.approx(expected)


def test_average_precision_sums_precision_over_gained_recall() -> None:
    outputs = np.array([0.9, 0.8, 0.7, 0.7, 0.1], np.float32)
    labels = np.array([1, 0, 1, 0, 1], np.float32)

    got = scores.score_binary(outputs, labels)

    # At 0.9: 1/1 of 1/3; at 0.7, both together: 2/4 of 1/3; at 0.1: 3/5 of 1/3.
    assert got.average_precision == pytest.approx((1 + 0.5 + 0.6) / 3)


def test_confusion_counts_every_frame_once() -> None:
    outputs = np.array([0.9, 0.5, 0.2, 0.6], np.float32)
    labels = np.array([1, 0, 1, 0], np.float32)

    got = scores.score_binary(outputs, labels, 0.5)

    counts = (got.true_positive, got.false_positive, got.true_negative, got.false_negative)
    assert counts == (1, 2, 0, 1)
    assert got.accuracy == 0.25


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_label_alone_cannot_be_scored(label: float) -> None:
    with pytest.raises(scores.ScoreError, match="expected both labels"):
        scores.score_binary(np.zeros(5, np.float32), np.full(5, label, np.float32))


def test_classes_are_told_by_the_highest_output() -> None:
    outputs = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
    labels = np.array([0, 1, 1, np.nan])

    got = scores.score_classes(outputs, labels, ("walk", "sit", "run"))

    assert got.frame_count == 3
    assert got.confusion == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert got.accuracy == pytest.approx(2 / 3)
    # Each of the two that occur: precision and recall of 1 and 1/2, in turn.
    assert got.macro_f1 == pytest.approx(2 / 3)
    # The class that does not occur has neither; 0.6 is above 0.5 and 0.2.
    assert set(got.roc_auc) == set(got.average_precision) == {"walk", "sit"}
    assert got.roc_auc["walk"] == 1.0


def test_numbers_are_scored_in_their_own_unit() -> None:
    outputs = np.array([1.0, 2.0, 5.0, 99.0])
    labels = np.array([2.0, 2.0, 3.0, np.nan])

    got = scores.score_numbers(outputs, labels)

    assert got.frame_count == 3
    assert got.mae == pytest.approx(1)
    assert got.rmse == pytest.approx(np.sqrt(5 / 3))
    assert got.r2 == pytest.approx(1 - 5 / (2 / 3))


def test_equal_numbers_have_no_share_of_variance() -> None:
    assert scores.score_numbers(np.array([1.0, 2.0]), np.array([3.0, 3.0])).r2 is None


def test_frames_without_a_label_alone_cannot_be_scored() -> None:
    with pytest.raises(scores.ScoreError, match="none of 3 frames has a label"):
        scores.score_numbers(np.zeros(3), np.full(3, np.nan))


@pytest.mark.parametrize("count", [3, 1 << 16, (1 << 16) + 1, 150_000])
def test_the_measures_are_those_of_scikit_learn(count: int) -> None:
    generator = np.random.default_rng(count)
    labels = generator.integers(0, 3, count).astype(np.float32)
    labels[:3] = 0, 1, 2
    outputs = np.round(generator.random((count, 3), np.float32) + np.eye(3)[labels.astype(int)], 3)
    outputs = outputs.astype(np.float32)  # With ties.
    binary, first = (labels == 1).astype(np.float32), outputs[:, 1]
    said = outputs.argmax(axis=1)

    of_binary = scores.score_binary(first, binary)
    of_classes = scores.score_classes(outputs, labels, ("a", "b", "c"))
    of_numbers = scores.score_numbers(first, labels)

    assert of_binary.roc_auc == pytest.approx(metrics.roc_auc_score(binary, first), rel=1e-12)
    assert of_binary.average_precision == pytest.approx(
        metrics.average_precision_score(binary, first), rel=1e-12
    )
    assert of_classes.confusion == metrics.confusion_matrix(labels, said).tolist()
    assert of_classes.macro_f1 == pytest.approx(metrics.f1_score(labels, said, average="macro"))
    assert of_classes.roc_auc["b"] == of_binary.roc_auc
    labels, first = labels.astype(np.float64), first.astype(np.float64)
    assert of_numbers.mae == pytest.approx(metrics.mean_absolute_error(labels, first))
    assert of_numbers.rmse == pytest.approx(metrics.root_mean_squared_error(labels, first))
    assert of_numbers.r2 == pytest.approx(metrics.r2_score(labels, first))


@pytest.mark.parametrize("kind", ["probability", "classes", "number"])
def test_scoring_takes_a_few_bytes_for_each_frame(kind: Kind) -> None:
    count = 400_000
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, count).astype(np.float32)
    outputs = generator.random((count, 2), np.float32)
    labelling = Labelling(kind, ("no", "yes") if kind == "classes" else ())
    tracemalloc.start()

    scores.score(outputs, labels, labelling)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * count + (1 << 23)  # The rest is what a part takes, however many there are.


def measured_of(streamed: list[Streamed], column: int) -> np.ndarray:
    """One output of the frames with label 1."""
    [part] = streamed
    assert part.labels is not None
    return np.asarray(part.outputs[part.labels == 1, column])


def test_each_of_several_outputs_is_scored_under_its_name(recorded: Recording) -> None:
    shipped = Bundle.load()
    cell = shipped.cell()

    class Doubled:
        """Gives the shipped output, and beside it its reverse."""

        interface = dataclasses.replace(
            shipped.interface,
            heads=(Head("harsh", 1, "probability"), Head("calm", 1, "probability")),
        )

        def step(self, frame: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            output, state = cell.step(frame, state)
            return np.concatenate([output, 1 - output], axis=-1), state

        def __getattr__(self, name: str) -> object:
            return getattr(cell, name)

    class TwoHeaded:
        card = dataclasses.replace(
            shipped.card,
            outputs={"harsh": Output(threshold=0.5), "calm": Output(threshold=0.9)},
        )
        interface = Doubled.interface

        def cell(self) -> Doubled:
            return Doubled()

    measured, streamed = evaluation.evaluate(TwoHeaded(), [recorded])  # type: ignore[arg-type]

    harsh, calm = measured.by_output["harsh"].overall, measured.by_output["calm"].overall
    assert isinstance(harsh, scores.BinaryScores)
    assert isinstance(calm, scores.BinaryScores)
    assert harsh.roc_auc == pytest.approx(1 - calm.roc_auc)
    assert harsh.roc_auc > 0.5
    # Each at its own threshold.
    assert (harsh.true_positive, calm.true_positive) == (
        int((measured_of(streamed, 0) >= 0.5).sum()),
        int((measured_of(streamed, 1) >= 0.9).sum()),
    )


def test_evaluation_streams_frame_by_frame(recorded: Recording) -> None:
    bundle = Bundle.load()
    cell, state = bundle.cell(), bundle.cell().initial_state()
    outputs = []
    for frame in recorded:
        output, state = cell.step(frame, state)
        outputs.append(output[0])

    measured, streamed = evaluation.evaluate(bundle, [recorded])

    assert streamed[0].outputs.tobytes() == np.array(outputs, np.float32).tobytes()
    assert measured.first.overall == measured.first.by_recording[recorded.name]
    assert measured.first.overall.frame_count == len(recorded)


def test_what_a_server_refuses_is_refused_by_its_sensor_and_time(recorded: Recording) -> None:
    frames = recorded.frames.copy()
    frames[123, 0] = 1e6
    spoilt = dataclasses.replace(recorded, frames=frames)

    with pytest.raises(scores.ScoreError) as refused:
        evaluation.evaluate(Bundle.load(), [spoilt])

    assert f"drive-11: at {recorded.times[123]:g} s: lin_acc_x: got 1e+06 m/s2" in str(
        refused.value
    )
    assert "--on-dropout" in str(refused.value)


def test_what_a_server_refuses_can_be_held_and_is_counted(recorded: Recording) -> None:
    bundle, frames = Bundle.load(), recorded.frames.copy()
    frames[123, 0] = frames[122, 0]
    as_held = dataclasses.replace(recorded, frames=frames.copy())
    frames[123, 0] = 1e6
    spoilt = dataclasses.replace(recorded, frames=frames)
    mending = Mending("hold", Ranges(bundle.interface.sensors))

    _, [expected] = evaluation.evaluate(bundle, [as_held])
    _, [streamed] = evaluation.evaluate(bundle, [spoilt], mending=mending)

    assert streamed.outputs.tobytes() == expected.outputs.tobytes()
    assert [*mending.notes()] == ["readings that dropped out: 1 (hold)"]


def test_no_frame_is_kept_once_it_is_streamed(recorded: Recording, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "drive.csv"
    with path.open("w") as file:
        write_csv(recorded, file)
    reader = open_recording(path, drive.SENSORS, Layout(label=drive.LABEL))
    kept: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def watch(block: Block) -> None:
        base = block.frames if block.frames.base is None else block.frames.base
        kept.append(weakref.ref(base))
        alive.append(sum(one() is not None for one in kept))

    [streamed] = evaluation.stream(Bundle.load().cell(), reader, watch)

    assert len(streamed.outputs) == len(recorded)
    assert len(alive) > 5
    # That which is streamed, and at most the one before.
    assert max(alive) <= 2


def test_ages_of_a_stream_double(recorded: Recording) -> None:
    measured, _ = evaluation.evaluate(Bundle.load(), [recorded])

    ages = measured.first.by_stream_age
    assert set(ages) <= {"0-15 s", "15-30 s", "30-60 s", "60-120 s"}
    assert ages


def test_a_recording_without_labels_is_named(recorded: Recording) -> None:
    bare = dataclasses.replace(recorded, labels=None)

    with pytest.raises(scores.ScoreError, match="drive-11: has no labels"):
        evaluation.evaluate(Bundle.load(), [bare])


@pytest.mark.parametrize(
    "baseline",
    [
        baselines.HorizontalMean(),
        baselines.Linear(),
        baselines.Linear(Labelling("classes", ("calm", "harsh", "never"))),
        baselines.Linear(Labelling("number")),
    ],
    ids=lambda baseline: baseline.name,
)
def test_a_baseline_sees_no_later_frame(
    baseline: baselines.HorizontalMean | baselines.Linear, recorded: Recording
) -> None:
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

    streamed = Streamed(recorded.name, recorded.times, recorded.labels, recorded.frames[:, :1])

    chosen = scored.learnt(Described("harsh"), Labelling())
    plots.outputs([streamed], chosen, tmp_path / "outputs.png")

    assert (tmp_path / "outputs.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("labelling", "outputs"),
    [
        (Labelling("classes", ("walk", "sit", "run")), [[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]),
        (Labelling("number", unit="cycle"), [[3.0], [5.0]]),
    ],
    ids=lambda value: value.kind if isinstance(value, Labelling) else "",
)
def test_classes_and_numbers_are_drawn(
    labelling: Labelling, outputs: list[list[float]], tmp_path: pathlib.Path
) -> None:
    from tickcell.model.keras import plots

    labels = np.array([0, np.nan, 2, 1] * 10, np.float32)
    streamed = Streamed("a", np.arange(40.0), labels, np.array(outputs * 20, np.float32))

    chosen = scored.learnt(Described("output"), labelling)
    plots.outputs([streamed], chosen, tmp_path / "outputs.png")
    if labelling.kind == "classes":
        overall = scores.score_classes(streamed.outputs, labels, labelling.classes)
        plots.confusion(overall, labelling.classes, tmp_path / "more.png")
    else:
        plots.truth([streamed], chosen, tmp_path / "more.png")

    for name in ("outputs.png", "more.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")

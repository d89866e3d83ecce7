"""Sequences with one label each: trained on whole, split whole, scored at the last frame."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tickcell import drive
from tickcell.cli import command_line
from tickcell.model.bundle import Bundle
from tickcell.model.keras import datasets, evaluation
from tickcell.model.keras.datasets import Source
from tickcell.model.keras.history import History
from tickcell.model.keras.scores import BinaryScores
from tickcell.model.keras.windows import WindowError, split_by_sequence
from tickcell.model.recording import Recording

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

QUICK = ("--units", "4", "5", "--epochs", "1", "--no-logs")


def train(*arguments: object) -> Result:
    return CliRunner().invoke(command_line.tickcell, ["train", *map(str, arguments)])


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(command_line.tickcell, ["evaluate", *map(str, arguments)])


def readings(generator: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Draws what a phone can give: its last reading is a length, never below 0."""
    frames = generator.standard_normal((*shape, 10), np.float32)
    frames[..., -1] = np.abs(frames[..., -1])
    return frames


def save(
    path: pathlib.Path, count: int, step_count: int = 6, *, seed: int = 0, **arrays: Any
) -> pathlib.Path:
    """Saves normal readings, drawn as the tutorial's noise is, and a label per sequence."""
    generator = np.random.default_rng(seed)
    frames = generator.standard_normal((count, step_count, 10), np.float32)
    labels = generator.integers(0, 2, count)
    np.savez(path, **{"frames": frames, "labels": labels, **arrays})
    return path


def last_row(directory: pathlib.Path) -> dict[str, float]:
    return History(directory / "history.csv", keep=1).rows[0]


def description_of(directory: pathlib.Path) -> dict[str, Any]:
    description: dict[str, Any] = json.loads((directory / "description.json").read_text())
    return description


def windowing_of(directory: pathlib.Path) -> dict[str, Any]:
    windowing: dict[str, Any] = description_of(directory)["training"]["recipe"]["windowing"]
    return windowing


def noise_set(directory: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Saves what the tutorial trains on, and what it validates on."""
    return (
        save(directory / "training.npz", 1024, 28, seed=0),
        save(directory / "validation.npz", 512, 28, seed=1),
    )


def test_the_noise_set_from_a_file_is_that_by_its_name(tmp_path: pathlib.Path) -> None:
    learnt, validated = map(str, noise_set(tmp_path))
    by_name = datasets.load(Source((datasets.NOISE,)), ())
    source = Source((learnt,), (validated,), rate_hz=by_name.rate_hz)
    by_file = datasets.load(source, by_name.sensors)

    for part in ("training", "validation"):
        pairs = zip(getattr(by_name, part), getattr(by_file, part), strict=True)
        for named, read in pairs:
            assert named.frames.tobytes() == read.frames.tobytes()
            np.testing.assert_array_equal(named.labels, read.labels)


@pytest.mark.slow
def test_the_noise_set_from_a_file_trains_as_by_its_name(tmp_path: pathlib.Path) -> None:
    learnt, validated = noise_set(tmp_path)
    by_name = train("--data", "noise", "--out", tmp_path / "a", "--batches", 4, *QUICK)
    by_file = train(
        "--data", learnt, "--validation", validated, "--out", tmp_path / "b", "--batches", 4, *QUICK
    )

    assert by_name.exit_code == 0, by_name.output
    assert by_file.exit_code == 0, by_file.output
    # The loop over 28 steps is laid out for the one and not for the other, so sums may be
    # taken in another order: one rounding of float32, not more.
    assert last_row(tmp_path / "b") == pytest.approx(last_row(tmp_path / "a"), rel=1e-6)


def test_sequences_with_one_label_are_trained_on_whole_unless_flags_differ(
    tmp_path: pathlib.Path,
) -> None:
    data = save(tmp_path / "set.npz", 8, frames=readings(np.random.default_rng(0), 8, 6))
    first = train("--data", data, "--out", tmp_path / "whole", *QUICK)
    second = train("--data", data, "--out", tmp_path / "a", "--steps", 4, "--each-step", *QUICK)

    assert first.exit_code == 0, first.output
    assert second.exit_code == 0, second.output
    whole, chosen = windowing_of(tmp_path / "whole"), windowing_of(tmp_path / "a")
    assert (whole["step_count"], whole["each_step"], whole["burn_in"]) == (6, False, 0)
    assert (chosen["step_count"], chosen["each_step"]) == (4, True)
    assert description_of(tmp_path / "whole")["outputs"][0]["meaning"] == "The label is 1."


def test_the_rate_flag_is_that_of_a_file_without_times(tmp_path: pathlib.Path) -> None:
    data = str(save(tmp_path / "set.npz", 4))

    for rate_hz in (10.0, 40.0):
        dataset = datasets.load(Source((data,), rate_hz=rate_hz), drive.SENSORS)

        assert dataset.rate_hz == pytest.approx(rate_hz)
        assert {len(recording) for recording in dataset.training} == {6}


def test_sequences_of_another_rate_are_each_brought_to_the_one_asked_for(
    tmp_path: pathlib.Path,
) -> None:
    data = str(save(tmp_path / "set.npz", 3, 40, times=np.arange(40) / 20))

    dataset = datasets.load(Source((data,), rate_hz=10.0), drive.SENSORS)

    assert dataset.rate_hz == pytest.approx(10)
    assert [len(recording) for recording in dataset.training] == [20] * 3
    assert dataset.one_label


@pytest.mark.parametrize("per_frame", [False, True])
def test_the_last_sequences_are_validated_on_and_none_is_cut(
    tmp_path: pathlib.Path, per_frame: bool
) -> None:
    changed: dict[str, Any] = {"labels": np.zeros((10, 6))} if per_frame else {}
    data = save(tmp_path / "set.npz", 10, **changed)

    dataset = datasets.load(Source((str(data),), validation_share=0.3, rate_hz=10.0), drive.SENSORS)

    both = dataset.training + dataset.validation
    assert (len(dataset.training), len(dataset.validation)) == (7, 3)
    assert np.stack([r.frames for r in both]).tobytes() == np.load(data)["frames"].tobytes()


@given(count=st.integers(1, 12), share=st.floats(0.01, 0.9))
def test_a_split_keeps_every_sequence_once_or_is_refused(count: int, share: float) -> None:
    made = [sequence(number) for number in range(count)]

    if round(count * (1 - share)) in (0, count):
        with pytest.raises(WindowError, match=f"set.npz: has {count} of the sequences"):
            split_by_sequence(made, share)
        return
    first, last = split_by_sequence(made, share)

    assert first + last == made
    assert first
    assert last


def sequence(number: int, *, label: float = 0.0, one_label: bool = True) -> Recording:
    frames = readings(np.random.default_rng(number), 5)
    return Recording(
        frames=frames,
        times=np.arange(5) / 10,
        labels=np.full(5, label, np.float32),
        sensor_names=tuple(sensor.name for sensor in drive.SENSORS),
        name="set.npz",
        one_label=one_label,
    )


FAULTS: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "too short for a window": (
        {},
        ("--steps", "7"),
        "set.npz: the longest has 6 frames, too few for one window of 7; name fewer with --steps.",
    ),
    "a share of nothing": (
        {},
        ("--validation-share", "0.1"),
        "set.npz: has 4 of the sequences that are never cut, so a validation share of 0.1 leaves "
        "one part empty; name a file to validate on with --validation.",
    ),
    "one label and a share": (
        {"frames": np.zeros((6, 10)), "labels": np.array(1)},
        ("--validation-share", "0.5"),
        "set.npz: has 1 of the sequences",
    ),
    "no labels": ({"labels": np.zeros((4, 0))}, (), "set.npz: labels: got float64 [4, 0]"),
    "left out in turn": ({}, ("--leave-one-out",), "takes recordings with a label per frame"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_set_is_one_sentence(fault: str, tmp_path: pathlib.Path) -> None:
    changed, flags, message = FAULTS[fault]
    data = save(tmp_path / "set.npz", 4, **changed)

    result = train("--data", data, "--out", tmp_path / "run", *flags, *QUICK)

    assert result.exit_code in (1, 2)
    assert message in result.output
    assert "Traceback" not in result.output


def test_sequences_of_two_lengths_need_a_window(tmp_path: pathlib.Path) -> None:
    data = save(tmp_path / "six.npz", 4), save(tmp_path / "five.npz", 4, 5)

    result = train("--data", data[0], "--data", data[1], "--out", tmp_path / "run", *QUICK)

    assert result.exit_code == 1
    assert "got lengths from 5 to 6 frames, expected one; name the frames" in result.output


def test_a_sequence_with_one_label_is_scored_at_its_last_frame() -> None:
    bundle = Bundle.load()
    recordings = [sequence(number, label=float(number % 2)) for number in range(6)]

    measured, streamed = evaluation.evaluate(bundle, recordings)

    threshold = bundle.card.outputs["aggressive"].threshold
    assert threshold is not None
    above = [part.outputs[-1, 0] >= threshold for part in streamed]
    right = [got == (number % 2 == 1) for number, got in enumerate(above)]
    assert measured.first.overall.frame_count == 6
    assert isinstance(measured.first.overall, BinaryScores)
    assert measured.first.overall.accuracy == pytest.approx(sum(right) / 6)
    assert measured.first.by_recording == {"set.npz": measured.first.overall}


def test_every_frame_of_a_sequence_with_a_label_per_frame_is_scored() -> None:
    recordings = [sequence(number, label=float(number), one_label=False) for number in (0, 1)]

    measured, _ = evaluation.evaluate(Bundle.load(), recordings)

    assert measured.first.overall.frame_count == 10


def test_a_file_of_sequences_is_evaluated_and_says_what_was_scored(
    tmp_path: pathlib.Path,
) -> None:
    Bundle.load().write(tmp_path / "bundle")
    data = save(tmp_path / "set.npz", 8, frames=readings(np.random.default_rng(0), 8, 6))

    evaluated = evaluate(tmp_path / "bundle", data)
    drawn = evaluate(tmp_path / "bundle", data, "--plot", tmp_path / "outputs.png")

    assert evaluated.exit_code == 0, evaluated.output
    assert "the output at its last frame is scored" in evaluated.output
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "outputs.png").is_file()


def test_more_recordings_than_can_be_looked_at_are_not_drawn(tmp_path: pathlib.Path) -> None:
    Bundle.load().write(tmp_path / "bundle")
    data = save(tmp_path / "set.npz", 21, frames=readings(np.random.default_rng(0), 21, 6))

    drawn = evaluate(tmp_path / "bundle", data, "--plot", tmp_path / "outputs.png")

    assert drawn.exit_code == 2
    assert "the files have 21 recordings; --plot draws 20 at most." in drawn.output

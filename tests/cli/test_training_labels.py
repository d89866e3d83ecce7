"""`tickcell train` and `evaluate` on files as people have them: from labels to figures."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tickcell.cli.commands.evaluate import evaluate
from tickcell.cli.commands.export import export
from tickcell.cli.commands.train import train
from tickcell.model.bundle import Bundle
from tickcell.model.interface import Head

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

QUICK = (
    "--steps", "20", "--burn-in", "5", "--batches", "6", "--units", "6", "6", "--epochs", "4",
    "--learning-rate", "0.02", "--no-logs",
)  # fmt: skip
COMMANDS = {"train": train, "export": export, "evaluate": evaluate}


def run(*arguments: object) -> Result:
    name, *others = map(str, arguments)
    return CliRunner().invoke(COMMANDS[name], others)


def succeed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def sensors(path: pathlib.Path, *names: str) -> pathlib.Path:
    path.write_text(
        json.dumps(
            [{"name": name, "unit": "", "min_reading": -1e3, "max_reading": 1e3} for name in names]
        )
    )
    return path


def gait(path: pathlib.Path, seed: int) -> pathlib.Path:
    """A file in the form of WISDM or PAMAP2: readings that tell an activity, as a word.

    Between two activities the label is "other", or empty; now and then a reading is missing.
    """
    generator = np.random.default_rng(seed)
    lines = ["t,hip_x,hip_y,activity"]
    for index in range(900):
        activity = ("sit", "walk", "run")[index // 100 % 3]
        level = {"sit": 0.0, "walk": 3.0, "run": 8.0}[activity]
        x, y = generator.normal(level, 1, 2)
        if index % 100 < 5:
            activity = "other" if index % 200 < 100 else ""
        x_cell = "" if index % 97 == 50 else f"{x:.3f}"
        lines.append(f"{index / 20:g},{x_cell},{y:.3f},{activity}")
    path.write_text("\n".join(lines) + "\n")
    return path


def engines(path: pathlib.Path, lives: list[int], seed: int) -> pathlib.Path:
    """A file in the form of CMAPSS: spaces, no names, many engines, each to its end."""
    generator = np.random.default_rng(seed)
    lines = []
    for unit, life in enumerate(lives, 1):
        for cycle in range(1, life + 1):
            wear = cycle / life + generator.normal(0, 0.02)
            lines.append(f"{unit} {cycle} {10 * wear:.4f} {generator.normal():.4f}  ")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, str, str]:
    """A bundle that was trained on words, what training said, and what evaluation says."""
    place = tmp_path_factory.mktemp("walked")
    names = sensors(place / "imu.json", "hip_x", "hip_y")
    flags = ("--label", "activity", "--null-class", "other", "--on-dropout", "interpolate")
    data = gait(place / "monday.csv", 1)
    said = succeed(
        "train", "--data", data, "--sensors", names, *flags, "--out", place / "run", *QUICK
    )
    succeed("export", place / "run" / "model.keras", "--out", place / "bundle")
    plot = place / "plot.png"
    told = succeed(
        "evaluate", place / "bundle", gait(place / "friday.csv", 2), *flags, "--plot", plot,
        "--json", place / "report.json",
    )  # fmt: skip
    return place, said, told


def test_words_are_learnt_as_classes_on_the_first_try(
    walked: tuple[pathlib.Path, str, str],
) -> None:
    place, said, _ = walked

    assert "labels: 3 classes (run, sit, walk)" in said
    assert "ignored, without a label: 45 frames" in said
    assert "readings that dropped out: 9 (interpolate)" in said
    assert "the augmentations for a phone need acc_x" in said
    assert "at 20 Hz" in said
    bundle = Bundle.load(place / "bundle")
    assert bundle.interface.heads == (Head("activity", 3, "classes", ("run", "sit", "walk")),)
    assert bundle.interface.output_names == ("run", "sit", "walk")
    np.testing.assert_allclose(bundle.golden.outputs.sum(axis=1), 1, atol=1e-5)


def test_classes_are_judged_by_confusion_and_by_each_class(
    walked: tuple[pathlib.Path, str, str],
) -> None:
    place, _, told = walked

    overall = json.loads((place / "report.json").read_text())["by_output"]["activity"]["overall"]
    assert "not scored, without a label: 45 frames" in told
    assert overall["frame_count"] == 900 - 45
    assert np.sum(overall["confusion"]) == 900 - 45
    assert set(overall["roc_auc"]) == {"run", "sit", "walk"}
    # Levels of 0, 3 and 8 with a noise of 1 are easily told.
    assert overall["roc_auc"]["run"] > 0.9
    for name in ("plot.png", "plot-confusion.png"):
        assert (place / name).is_file()


def test_a_class_that_the_bundle_does_not_know_is_one_sentence(
    walked: tuple[pathlib.Path, str, str], tmp_path: pathlib.Path
) -> None:
    place, _, _ = walked
    other = tmp_path / "other.csv"
    other.write_text("t,hip_x,hip_y,activity\n0,1,1,sit\n0.05,1,1,swim\n")

    result = run("evaluate", place / "bundle", other, "--label", "activity")

    assert result.exit_code == 1
    assert (
        "row 3, column 'activity': got 'swim', expected one of the classes run, sit, walk; "
        "--label names another column." in result.output
    )


CMAPSS = (
    "--columns", "unit,cycle,wear,noise", "--delimiter", "space", "--time", "cycle",
    "--time-unit", "cycle", "--recording-column", "unit",
)  # fmt: skip


def test_engines_of_one_file_learn_what_remains_of_each(tmp_path: pathlib.Path) -> None:
    names = sensors(tmp_path / "engine.json", "wear", "noise")
    data = engines(tmp_path / "train.txt", [60, 80, 70, 90, 65], 1)
    said = succeed(
        "train", "--data", data, "--sensors", names, *CMAPSS, "--label-countdown", 40,
        "--validation-share", 0.4, "--out", tmp_path / "run", *QUICK,
    )  # fmt: skip
    succeed("export", tmp_path / "run" / "model.keras", "--out", tmp_path / "bundle")
    plot = tmp_path / "plot.png"
    told = succeed(
        "evaluate", tmp_path / "bundle", data, *CMAPSS, "--label-countdown", 40, "--plot", plot
    )

    assert "3 recordings to train on and 2 to validate on, at 1 frame per cycle" in said
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.interface.heads == (Head("remaining", 1, "number"),)
    assert (bundle.card.outputs["remaining"].unit, bundle.card.rate_hz) == ("cycle", 1)
    assert "MAE and RMSE: in cycle" in told
    # The outputs come in cycles, not in deviations of them.
    assert bundle.golden.outputs.max() > 5
    assert (tmp_path / "plot-truth.png").is_file()


def test_engines_that_were_stopped_are_judged_by_a_file_of_labels(tmp_path: pathlib.Path) -> None:
    names = sensors(tmp_path / "engine.json", "wear", "noise")
    data = engines(tmp_path / "train.txt", [60, 80, 70], 1)
    succeed(
        "train", "--data", data, "--sensors", names, *CMAPSS, "--label-countdown",
        "--out", tmp_path / "run", *QUICK,
    )  # fmt: skip
    succeed("export", tmp_path / "run" / "model.keras", "--out", tmp_path / "bundle")
    stopped = engines(tmp_path / "test.txt", [30, 40], 2)
    (tmp_path / "rul.txt").write_text("112\n98\n")

    told = succeed(
        "evaluate", tmp_path / "bundle", stopped, *CMAPSS, "--label-file", tmp_path / "rul.txt",
        "--json", tmp_path / "report.json",
    )  # fmt: skip

    assert "the output at its last frame is scored" in told
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["by_output"]["remaining"]["overall"]["frame_count"] == 2


def test_rows_of_a_recording_that_come_apart_are_one_sentence(tmp_path: pathlib.Path) -> None:
    names = sensors(tmp_path / "engine.json", "wear", "noise")
    data = engines(tmp_path / "train.txt", [30, 30], 1)
    lines = data.read_text().splitlines()
    data.write_text("\n".join([*lines, "1 31 9 0"]) + "\n")

    result = run(
        "train", "--data", data, "--sensors", names, *CMAPSS, "--label-countdown",
        "--out", tmp_path / "run", *QUICK,
    )  # fmt: skip

    assert result.exit_code == 1
    assert "row 61: is of the recording '1' again, after those of '2'" in result.output


def test_leaving_out_takes_recordings_of_one_file_and_numbers(tmp_path: pathlib.Path) -> None:
    names = sensors(tmp_path / "engine.json", "wear", "noise")
    data = engines(tmp_path / "train.txt", [60, 50], 1)

    said = succeed(
        "train", "--leave-one-out", "--data", data, "--sensors", names, *CMAPSS,
        "--label-countdown", "--seeds", 1, "--out", tmp_path / "left", *QUICK,
    )  # fmt: skip

    assert "ridge regression" in said
    report = json.loads((tmp_path / "left" / "leave_one_out.json").read_text())
    assert len(report) == 2
    assert set(report[0]["mean"]) == {"mae", "rmse", "r2"}


def test_a_failed_try_leaves_nothing_that_stops_the_next(tmp_path: pathlib.Path) -> None:
    names = sensors(tmp_path / "imu.json", "hip_x", "hip_y")
    data = gait(tmp_path / "monday.csv", 1)
    flags = ("--data", data, "--sensors", names, "--label", "activity", "--out", tmp_path / "run")
    dropped = ("--on-dropout", "drop", "--max-gap", 20)

    failed = [
        run("train", *flags, *QUICK),  # Readings drop out.
        run("train", *flags, *dropped, *QUICK, "--steps", 5000),
        run("train", *flags, *dropped, *QUICK, "--turn"),
        run("train", *flags, *dropped, *QUICK, "--learning-rate", 1e30),
    ]
    fine = run("train", *flags, *dropped, *QUICK)

    assert [result.exit_code for result in failed] == [1, 1, 2, 1]
    assert "omit --turn" in failed[2].output
    assert "the loss is not a finite number" in failed[3].output
    assert fine.exit_code == 0, fine.output

"""`tickcell train`, `export` and `evaluate`, from data to a bundle, and their sentences."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import pytest
from click.testing import CliRunner, Result
from keras import layers

from tickcell import drive
from tickcell.cli import command_line
from tickcell.model import recording as recordings_of
from tickcell.model.bundle import SHIPPED, Bundle
from tickcell.model.recording import Recording

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

# A network and an epoch as small as they can be.
QUICK = (
    "--steps",
    "20",
    "--burn-in",
    "5",
    "--batches",
    "2",
    "--units",
    "4",
    "5",
    "--members",
    "1",
    "--no-logs",
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command_line.tickcell, [str(argument) for argument in arguments])


def write(recording: Recording, path: pathlib.Path) -> pathlib.Path:
    with path.open("w") as file:
        recordings_of.write_csv(recording, file)
    return path


@pytest.fixture(scope="module")
def trips(tmp_path_factory: pytest.TempPathFactory) -> list[pathlib.Path]:
    """Two recordings of a minute at 50 Hz, as CSV."""
    directory = tmp_path_factory.mktemp("trips")
    return [write(drive.record(seed, 60), directory / f"trip{seed}.csv") for seed in (31, 32)]


@pytest.fixture(scope="module")
def trained(trips: list[pathlib.Path], tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run on the two recordings, of one epoch."""
    directory = tmp_path_factory.mktemp("trained") / "run"
    result = run(
        "train", "--data", trips[0], "--data", trips[1], "--out", directory, "--epochs", 1, *QUICK
    )
    assert result.exit_code == 0, result.output
    return directory


def test_a_network_trained_on_recordings_is_exported_and_evaluated(
    trained: pathlib.Path, trips: list[pathlib.Path], tmp_path: pathlib.Path
) -> None:
    exported = run(
        "export", trained / "model.keras", "--out", tmp_path / "bundle", "--golden", trips[0]
    )
    evaluated = run(
        "evaluate",
        tmp_path / "bundle",
        *trips,
        "--json",
        tmp_path / "report.json",
        "--plot",
        tmp_path / "plot.png",
    )

    assert exported.exit_code == 0, exported.output
    assert "max |delta| to Keras over the whole sequence" in exported.output
    assert evaluated.exit_code == 0, evaluated.output
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.card.rate_hz == pytest.approx(10)
    assert bundle.card.training["recipe"]["windowing"]["step_count"] == 20
    assert bundle.keras_path is not None
    report = json.loads((tmp_path / "report.json").read_text())
    measured = report["by_output"]["aggressive"]["overall"]
    # 50 Hz recordings of 60 s, brought to the bundle's 10 Hz.
    assert measured["frame_count"] == pytest.approx(1200, abs=4)
    assert (tmp_path / "plot.png").is_file()


def test_a_run_is_resumed_with_its_own_data_and_recipe(trained: pathlib.Path) -> None:
    resumed = run("train", "--resume", trained, "--epochs", 2, "--no-logs")

    assert resumed.exit_code == 0, resumed.output
    assert "epoch 2:" in resumed.output
    assert len((trained / "history.csv").read_text().splitlines()) == 3


def test_a_resumed_run_takes_no_other_recipe(trained: pathlib.Path) -> None:
    result = run("train", "--resume", trained, "--learning-rate", 0.1, "--seed", 0)

    assert result.exit_code == 2
    assert "a resumed run keeps its settings" in result.output
    assert "only, not --learning-rate, --seed" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data a.csv --drive-count 3", "--drive-count: needs simulated drives"),
        ("--data drive --label x --rate-hz 5", "--rate-hz, --label: needs recordings in files"),
        ("--data noise --on-dropout hold", "--on-dropout: needs recordings in files"),
        ("--data noise --seeds 3", "--seeds needs --leave-one-out"),
        ("--leave-one-out --data a.csv --validation-share 0.1", "and no --validation-share"),
        ("--leave-one-out --data noise", "takes recordings as --data, not noise"),
    ],
)
def test_no_flag_is_ignored_in_silence(words: str, message: str, tmp_path: pathlib.Path) -> None:
    result = run("train", *words.split(), "--out", tmp_path / "run")

    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_written_over_another(
    trained: pathlib.Path, trips: list[pathlib.Path]
) -> None:
    result = run("train", "--data", trips[0], "--out", trained)

    assert result.exit_code == 1
    assert "holds a run; continue it" in result.output


def test_training_writes_logs_for_tensorboard(
    trips: list[pathlib.Path], tmp_path: pathlib.Path
) -> None:
    arguments = ("--out", tmp_path / "run", "--logs", tmp_path / "logs", "--name", "try")
    result = run("train", "--data", trips[0], *arguments, "--epochs", 1, *QUICK[:-1])

    assert result.exit_code == 0, result.output
    assert list((tmp_path / "logs" / "try").rglob("events.out.tfevents.*"))


def test_leaving_one_recording_out_stands_beside_the_baselines(
    trips: list[pathlib.Path], tmp_path: pathlib.Path
) -> None:
    data = [argument for trip in trips for argument in ("--data", trip)]
    result = run(
        "train", "--leave-one-out", *data, "--seeds", 1, "--out", tmp_path / "run", "--epochs", 1,
        *QUICK,
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "run" / "leave_one_out.json").read_text())
    assert [left["name"] for left in report] == ["trip31.csv", "trip32.csv"]
    assert set(report[0]["by_seed"]) == {"0"}
    assert len(report[0]["by_baseline"]) == 2
    assert "logistic regression" in result.output
    assert (tmp_path / "run" / "leave_one_out.png").is_file()


def test_a_network_for_drives_that_is_not_good_enough_does_not_pass_the_gate(
    tmp_path: pathlib.Path,
) -> None:
    trained = run(
        "train", "--data", "drive", "--drive-count", 1, "--drive-s", 30, "--epochs", 1,
        "--out", tmp_path / "run", *QUICK,
    )  # fmt: skip
    export = ("export", tmp_path / "run" / "model.keras", "--out", tmp_path / "bundle")
    gated = run(*export, "--gate", "drive")

    assert trained.exit_code == 0, trained.output
    assert gated.exit_code == 1
    assert "held-out drives, streamed: got ROC AUC" in gated.output
    assert not (tmp_path / "bundle").exists()
    assert run(*export).exit_code == 0


def test_the_gate_for_drives_refuses_a_model_of_other_data(
    trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    result = run("export", trained / "model.keras", "--out", tmp_path / "bundle", "--gate", "drive")

    assert result.exit_code == 1
    assert "was not trained with --data drive" in result.output
    assert not (tmp_path / "bundle").exists()


def test_any_keras_model_is_exported_with_what_the_flags_say(tmp_path: pathlib.Path) -> None:
    model = keras.Sequential(
        [keras.Input((None, 3)), layers.LSTM(4, return_sequences=True), layers.Dense(1)]
    )
    model.save(tmp_path / "gait.keras")

    result = run(
        "export", tmp_path / "gait.keras", "--out", tmp_path / "bundle", "--rate-hz", 100,
        "--meaning", "A step is under way.",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    bundle = Bundle.load(tmp_path / "bundle")
    assert (bundle.card.name, bundle.card.rate_hz) == ("gait", 100)
    assert bundle.card.outputs["output"].meaning == "A step is under way."
    assert "frames drawn from a normal distribution, which may be far" in result.output
    assert [sensor.name for sensor in bundle.interface.sensors] == [
        "reading_1",
        "reading_2",
        "reading_3",
    ]


def test_a_rate_cannot_be_guessed(tmp_path: pathlib.Path) -> None:
    model = keras.Sequential([keras.Input((None, 3)), layers.GRU(4)])
    model.save(tmp_path / "gait.keras")

    result = run("export", tmp_path / "gait.keras", "--out", tmp_path / "bundle")

    assert result.exit_code == 2
    assert "name the rate with --rate-hz" in result.output


def test_what_cannot_be_streamed_is_one_sentence(tmp_path: pathlib.Path) -> None:
    both = layers.Bidirectional(layers.GRU(4), name="both")
    keras.Sequential([keras.Input((None, 3)), both]).save(tmp_path / "both.keras")

    result = run("export", tmp_path / "both.keras", "--out", tmp_path / "bundle", "--rate-hz", 100)

    assert result.exit_code == 1
    assert result.output.strip().count("\n") == 0
    assert "layer 'both' (Bidirectional) cannot be streamed" in result.output
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_is_not_written_over_another(
    trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    Bundle.load().write(tmp_path)

    result = run("export", trained / "model.keras", "--out", tmp_path)

    assert result.exit_code == 1
    assert "is not empty; name a new directory" in result.output
    assert Bundle.load(tmp_path).fingerprint == Bundle.load().fingerprint


def test_only_a_bundle_is_ever_replaced(trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")

    result = run("export", trained / "model.keras", "--out", tmp_path, "--replace")

    assert result.exit_code == 1
    assert "holds more than a bundle: ['thesis.tex']" in result.output
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def with_column(trip: pathlib.Path, path: pathlib.Path, name: str) -> pathlib.Path:
    """Copies a recording with one more column, of numbers."""
    first, *lines = trip.read_text().splitlines()
    path.write_text("\n".join([f"{first},{name}", *(f"{line},7" for line in lines)]))
    return path


def test_the_only_further_column_is_taken_for_the_labels_and_said(
    trained: pathlib.Path, trips: list[pathlib.Path], tmp_path: pathlib.Path
) -> None:
    description = json.loads((trained / "description.json").read_text())
    export = run("export", trained / "model.keras", "--out", tmp_path / "bundle")
    evaluated = run("evaluate", tmp_path / "bundle", trips[0])

    assert description["outputs"][0]["name"] == "aggressive"
    assert description["outputs"][0]["meaning"] == "The label 'aggressive' is 1."
    assert (export.exit_code, evaluated.exit_code) == (0, 0)
    assert f"{trips[0].name}: labels are in the column aggressive\n" in evaluated.output


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_of_several_further_columns_none_is_taken_for_the_labels(
    command: str, trips: list[pathlib.Path], tmp_path: pathlib.Path
) -> None:
    data = with_column(trips[0], tmp_path / "two.csv", "mood")
    arguments = {
        "train": ("--data", data, "--out", tmp_path / "run", *QUICK),
        "evaluate": (SHIPPED, data),
    }[command]

    result = run(command, *arguments)

    assert result.exit_code == 1
    assert (
        "two.csv: has no labels: looked for the only column that is neither a sensor's nor the "
        "time's, and found 'aggressive', 'mood'; name it with --label." in result.output
    )
    assert not (tmp_path / "run").exists()


def test_recordings_whose_labels_are_in_different_columns_are_refused(
    trips: list[pathlib.Path], tmp_path: pathlib.Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text(trips[1].read_text().replace("aggressive", "harsh", 1))

    result = run("train", "--data", trips[0], "--data", other, "--out", tmp_path / "run", *QUICK)

    assert result.exit_code == 1
    assert "got labels from the columns 'aggressive', 'harsh', expected one" in result.output


def cut(text: str) -> str:
    """Drops the last cell of the fourth line."""
    lines = text.splitlines()
    lines[3] = lines[3].rpartition(",")[0]
    return "\n".join(lines)


DAMAGED: dict[str, tuple[Callable[[str], str], str]] = {
    "a missing column": (lambda text: text.replace("gyro_z", "gyro"), "'gyro_z'"),
    "a ragged row": (cut, "row 4"),
    "a reading that is no number": (
        lambda text: text.replace("\n0.02,", "\n0.02,nan", 1),
        "row 3",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_bad_input_is_a_sentence_that_names_file_row_and_column(
    damage: str, trips: list[pathlib.Path], tmp_path: pathlib.Path
) -> None:
    change, where = DAMAGED[damage]
    bad = tmp_path / "bad.csv"
    bad.write_text(change(trips[0].read_text()))

    result = run("train", "--data", bad, "--out", tmp_path / "run", "--labels", "binary", *QUICK)

    assert result.exit_code == 1
    assert "bad.csv" in result.output
    assert where in result.output
    assert not (tmp_path / "run").exists()


def test_a_recording_too_short_for_one_window_is_a_sentence(tmp_path: pathlib.Path) -> None:
    short = write(drive.record(1, 1), tmp_path / "short.csv")

    result = run("train", "--data", short, "--out", tmp_path / "run", "--no-logs")

    assert result.exit_code == 1
    assert "short.csv: the longest has" in result.output


def test_a_tampered_bundle_is_a_sentence(trips: list[pathlib.Path], tmp_path: pathlib.Path) -> None:
    shipped = Bundle.load()
    graph = bytearray(shipped.step_graph)
    graph[-9] ^= 1
    dataclasses.replace(shipped, step_graph=bytes(graph)).write(tmp_path / "bundle")
    (tmp_path / "bundle" / "card.json").write_bytes((SHIPPED / "card.json").read_bytes())

    result = run("evaluate", tmp_path / "bundle", trips[0])

    assert result.exit_code == 1
    assert "one of them was changed" in result.output


def test_numbers_of_readings_must_be_those_of_the_sensors(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "narrow.npy", np.zeros((200, 4), np.float32))

    result = run("train", "--data", tmp_path / "narrow.npy", "--out", tmp_path / "run")

    assert result.exit_code == 1
    assert "narrow.npy" in result.output

"""What outputs are is said once, when a model is exported, and shown wherever they are."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import click
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers

from tickcell.cli import command_line, server_process
from tickcell.cli.commands import outputs
from tickcell.cli.commands.evaluate import evaluate
from tickcell.cli.commands.export import export
from tickcell.model.bundle import Bundle
from tickcell.model.card import Output
from tickcell.model.interface import Head
from tickcell.model.outputs import Described

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

ACTIVITIES = ("sit", "walk", "run")
FLAGS = (
    "--output", "pace", "--unit", "pace=m/s", "--meaning", "pace=How fast the wearer is.",
    "--output", "activity", *(f"--class=activity={name}" for name in ACTIVITIES),
    "--output", "risk", "--threshold", "risk=0.3", "--meaning", "risk=A fall is near: p=1.",
)  # fmt: skip


def succeed(command: Any, *arguments: object) -> str:
    result = CliRunner().invoke(command, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A model with a number, classes and a probability, exported; and a recording of each label."""
    place = tmp_path_factory.mktemp("gait")
    keras.utils.set_random_seed(2)
    sequence = keras.Input((None, 2))
    each = layers.GRU(6, return_sequences=True)(sequence)
    heads = {
        "speed": layers.Dense(1)(each),
        "activity": layers.Dense(3, activation="softmax")(each),
        "falls": layers.Dense(1, activation="sigmoid")(each),
    }
    keras.Model(sequence, [heads["speed"], heads["activity"], heads["falls"]]).save(
        place / "gait.keras"
    )
    generator = np.random.default_rng(3)
    lines = {name: ["t,reading_1,reading_2,label"] for name in ("activity", "pace", "risk", "odd")}
    for index in range(300):
        x, y = generator.normal(size=2)
        labels = {
            "activity": ACTIVITIES[index // 20 % 3],
            "pace": f"{x:.3f}",
            "risk": int(y > 0),
            "odd": "swim" if index == 7 else "walk",
        }
        for name, label in labels.items():
            lines[name].append(f"{index / 50:g},{x:.4f},{y:.4f},{label}")
    for name, rows in lines.items():
        (place / f"{name}.csv").write_text("\n".join(rows) + "\n")
    told = succeed(export, place / "gait.keras", "--out", place / "bundle", "--rate-hz", 50, *FLAGS)
    (place / "told.txt").write_text(told)
    return place


def test_an_export_says_what_each_output_is(place: pathlib.Path) -> None:
    bundle = Bundle.load(place / "bundle")

    assert bundle.interface.heads == (
        Head("pace", 1),
        Head("activity", 3, "classes", ACTIVITIES),
        Head("risk", 1, "probability"),
    )
    assert bundle.card.outputs == {
        "pace": Output("How fast the wearer is.", "m/s"),
        "activity": Output(),
        "risk": Output("A fall is near: p=1.", threshold=0.3),
    }
    told = (place / "told.txt").read_text()
    assert "output pace: a number in m/s (How fast the wearer is.)\n" in told
    assert "output activity: 3 classes: sit, walk, run\n" in told
    assert "output risk: a probability, threshold 0.3 (A fall is near: p=1.)\n" in told


def test_a_server_shows_them_and_a_replay_has_their_names(
    place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server_process.temporary("--bundle", str(place / "bundle")) as server:
        at = ["--server", server.address]
        assert command_line.main(["models", "show", *at]) == 0
        shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
        plot, rows = place / "plot.png", place / "rows.csv"
        given = ["replay", str(place / "risk.csv"), "--fast", *at, "--out", str(rows)]
        assert command_line.main([*given, "--plot", str(plot)]) == 0

    assert "OUTPUT KIND CLASSES UNIT THRESHOLD MEANING" in shown
    assert "pace number - m/s - How fast the wearer is." in shown
    assert "activity classes sit, walk, run - - -" in shown
    assert "risk probability - - 0.3 A fall is near: p=1." in shown
    names = "output_pace,output_activity_sit,output_activity_walk,output_activity_run,output_risk"
    assert rows.read_text().startswith(f"step,t,{names}\n0,0.0,")
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("output", "title"),
    [
        ("activity", "output activity, the probabilities of 3 classes"),
        ("pace", "output pace, a number in m/s: How fast the wearer is."),
        ("risk", "output risk, a probability: A fall is near: p=1."),
    ],
)
def test_each_output_is_scored_by_labels_of_its_kind(
    place: pathlib.Path, output: str, title: str
) -> None:
    report = place / f"{output}.json"
    told = succeed(
        evaluate, place / "bundle", place / f"{output}.csv", "--output", output,
        "--plot", place / f"{output}.png", "--json", report,
    )  # fmt: skip

    assert f"{title}\n" in told
    assert [*json.loads(report.read_text())["by_output"]] == [output]
    if output == "risk":
        assert "threshold 0.3" in told


def labels_in(path: pathlib.Path) -> list[str]:
    return [line.rpartition(",")[2] for line in path.read_text().splitlines()[1:]]


def test_labels_of_any_kind_stand_beside_the_outputs_of_a_replay(
    place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server_process.temporary("--bundle", str(place / "bundle")) as server:

        def replay(name: str, *arguments: str) -> int:
            given = ["replay", str(place / f"{name}.csv"), "--fast", "--label", "label"]
            return command_line.main([*given, "--server", server.address, *arguments])

        for name in ("activity", "pace", "risk"):
            rows, plot = place / f"labelled-{name}.csv", place / f"labelled-{name}.png"
            drawn = ["--out", str(rows), "--plot", str(plot)]
            assert replay(name, "--output", name, *drawn) == 0
            labels, given = (labels_in(path) for path in (rows, place / f"{name}.csv"))
            if name == "pace":
                assert np.array_equal(np.array(labels, np.float32), np.array(given, np.float32))
            else:
                assert labels == given
            assert plot.read_bytes().startswith(b"\x89PNG")
        capsys.readouterr()
        assert replay("pace") == 1
        assert "no label is of all of them; name one with --output" in capsys.readouterr().err
        assert replay("odd", "--output", "activity") == 1
        assert "expected one of the classes sit, walk, run" in capsys.readouterr().err
        assert replay("odd", "--output", "activity", "--null-class", "swim") == 0
        assert capsys.readouterr().out.splitlines()[8].endswith(",")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--version", "a/b"), "--version: got 'a/b', expected a letter"),
        (("--name", "my model"), "--name: got 'my model', expected a letter"),
        (("--rate-hz", "-3"), "--rate-hz: got -3.0, expected a rate above 0"),
        (("--threshold", "risk=high"), "--threshold: got 'high', expected a number"),
        (("--threshold", "nan"), "--threshold: got 'nan', expected a number"),
        (("--kind", "risk=logit"), "--kind: got 'logit', expected one of"),
        (("--output", "a", "--output", "a"), "--output: got 'a', 'a', expected a name for each"),
        (("--output", "a", "--kind", "number", "--class", "x"), "--class: output 'a' has the kind"),
        (("--output", "a", "--class", "x", "--class", "x"), "expected each once"),
        (("--output", "a", "--output", "b", "--unit", "m"), "expected OUTPUT=UNIT with one of"),
        (("--golden", "nowhere.csv"), "--golden: nowhere.csv: does not exist"),
    ],
)
def test_what_no_model_can_be_is_refused_before_the_model_is_read(
    arguments: tuple[str, ...], message: str, tmp_path: pathlib.Path
) -> None:
    # No model, so that reading it would be another error.
    (tmp_path / "model.keras").touch()
    given = ["--rate-hz", "50", *arguments, "--out", str(tmp_path / "bundle")]

    result = CliRunner().invoke(export, [str(tmp_path / "model.keras"), *given])

    assert result.exit_code == 2, result.output
    assert message in result.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), r"has the outputs pace \(number\), activity \(classes\), risk \(probability\)"),
        (("--output", "mood"), "has no output 'mood', only pace, activity, risk"),
        (("--output", "activity"), "got 'swim', expected one of the classes sit, walk, run"),
    ],
)
def test_labels_that_no_output_tells_are_one_sentence(
    place: pathlib.Path, arguments: tuple[str, ...], sentence: str
) -> None:
    given = [str(place / "bundle"), str(place / "odd.csv"), *arguments]

    result = CliRunner().invoke(evaluate, given)

    assert result.exit_code == 1, result.output
    # Beside notes on what was assumed of the file.
    assert len([line for line in result.output.splitlines() if "tickcell: " not in line]) == 1
    assert re.search(sentence, result.output), result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": ("m/s",)}, "--unit: got 'm/s', expected OUTPUT=UNIT with one of .* pace, risk"),
        ({"units": ("pace=m", "pace=km")}, "--unit: got two for output 'pace'"),
        ({"kinds": ("pace=logit",)}, "--kind: got 'logit', expected one of probability, classes"),
        ({"thresholds": ("risk=high",)}, "--threshold: got 'high', expected a number"),
    ],
)
def test_what_is_said_of_no_output_is_refused(options: dict[str, Any], message: str) -> None:
    nothing = dict.fromkeys(("kinds", "classes", "units", "meanings", "thresholds"), ())
    described = [Described("pace"), Described("risk")]

    with pytest.raises(click.UsageError, match=message):
        outputs.told(described, {**nothing, **options})


def test_of_a_single_output_the_name_may_be_left_out() -> None:
    nothing = dict.fromkeys(("kinds", "classes", "units", "meanings", "thresholds"), ())
    options = {**nothing, "meanings": ("p = 1 where it falls.",), "thresholds": ("output=0.7",)}

    assert outputs.told([Described("output")], options) == (
        Described("output", meaning="p = 1 where it falls.", threshold=0.7),
    )


def test_classes_without_names_are_told_by_their_places(
    place: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    model = keras.Sequential(
        [keras.Input((None, 2)), layers.GRU(4, return_sequences=True), layers.Dense(3)]
    )
    model.add(layers.Softmax())
    model.save(tmp_path / "gait.keras")
    succeed(export, tmp_path / "gait.keras", "--out", tmp_path / "bundle", "--rate-hz", 50)
    numbered = tmp_path / "numbered.csv"
    text = (place / "activity.csv").read_text()
    for number, name in enumerate(ACTIVITIES):
        text = text.replace(name, str(number))
    numbered.write_text(text)

    told = succeed(evaluate, tmp_path / "bundle", numbered)

    assert "labels are taken for class numbers, 0 to 2" in told
    assert "output output, the probabilities of 3 classes" in told

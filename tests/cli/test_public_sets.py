"""From files in the form of public data sets to served outputs, by the commands of the docs."""

from __future__ import annotations

import json
import pathlib
import shlex
from collections.abc import Callable

import numpy as np
import pytest

import documents
from tickcell.cli import command_line, comparison, server_process
from tickcell.model import Bundle

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

DOCUMENT = documents.Document.read(
    pathlib.Path(__file__).resolve().parents[2] / "docs" / "recordings.md"
)
# What makes a run short, and says nothing of files.
QUICK = shlex.split("--steps 20 --burn-in 5 --batches 2 --batch 8 --units 4 4 --epochs 1 --no-logs")
TURBOFAN = [
    "unit",
    "cycle",
    *(f"setting_{n}" for n in (1, 2, 3)),
    *(f"s_{n}" for n in range(1, 22)),
]
PAMAP2 = ["timestamp", "activity", "heart_rate", *(f"imu_{number}" for number in range(51))]

Make = Callable[[pathlib.Path], None]


def describe(path: pathlib.Path, *names: str) -> None:
    limits = {"unit": "", "min_reading": -1e4, "max_reading": 1e4}
    path.write_text(json.dumps([{"name": name, **limits} for name in names]))


def turbofan(here: pathlib.Path) -> None:
    """Engines one after another, spaces at the ends of rows."""
    generator = np.random.default_rng(1)
    lines = [
        f"{unit} {cycle} "
        + " ".join(f"{reading:.4f}" for reading in 500 + cycle + generator.normal(size=24))
        + "  \n"
        for unit in range(1, 6)
        for cycle in range(1, 60 + 9 * unit)
    ]
    (here / "train_FD001.txt").write_text("".join(lines))
    (here / "turbofan.txt").write_text("\n".join(TURBOFAN) + "\n")
    describe(here / "turbofan.json", "s_2", "s_3", "s_4")


def wisdm(here: pathlib.Path) -> None:
    """Semicolons at the ends, times of uptime that begin anew, a blank and a torn row."""
    generator = np.random.default_rng(2)
    people = []
    for user, start in ((33, 49_105_962_326_000), (18, 12_000_000_000)):
        rows = []
        for step in range(400):
            activity = ("Jogging", "Walking")[step // 100 % 2]
            x, y, z = generator.normal(3 * (step // 100 % 2), 1, 3)
            time = start + 50_000_000 * step
            rows.append(f"{user},{activity},{time},{x:.7f},{y:.6f},{z:.8f};")
        rows[7] = rows[7].rpartition(",")[0] + ",;"
        people.append(rows)
    people[0].insert(20, "")
    (here / "WISDM_ar_v1.1_raw.txt").write_text("\n".join(people[0] + people[1]) + "\n")
    (here / "one-person.txt").write_text("\n".join(people[1]) + "\n")
    describe(here / "phone.json", "x", "y", "z")


def pamap2(here: pathlib.Path) -> None:
    """54 columns, a heart rate that is mostly NaN, activity 0 between two others."""
    generator = np.random.default_rng(3)
    lines = []
    for step in range(900):
        activity = (0, 1, 0, 4)[step // 60 % 4]
        heart = "104" if step % 11 == 0 else "NaN"
        rest = " ".join(f"{reading:.5f}" for reading in generator.normal(activity, 1, 51))
        lines.append(f"{8.38 + step / 100:.2f} {activity} {heart} {rest}\n")
    (here / "subject101.dat").write_text("".join(lines))
    (here / "pamap2.txt").write_text("\n".join(PAMAP2))
    describe(here / "imu.json", "imu_1", "imu_2", "heart_rate")


def har(here: pathlib.Path) -> None:
    """Windows of 128 in rows, exponents of three digits, a file for each axis."""
    generator = np.random.default_rng(4)
    labels = np.arange(30) % 3 + 1
    for axis in "xyz":
        windows = generator.normal(labels[:, np.newaxis], 0.5, (30, 128))
        lines = [" " + " ".join(f"{value: .7e}" for value in row) for row in windows]
        text = "\n".join(lines).replace("e+", "e+0").replace("e-", "e-0")
        (here / f"body_acc_{axis}_train.txt").write_text(text + "\n")
    (here / "y_train.txt").write_text("".join(f"{label}\n" for label in labels))
    describe(here / "waist.json", "acc_x", "acc_y", "acc_z")
    [made] = [block for block in DOCUMENT.blocks if block.language == "python"]
    exec(made.code, {})


def shown(start: str, *parts: str) -> list[str]:
    """Returns the words of the only command of the document that begins so and has the parts."""
    [command] = [
        command
        for command in DOCUMENT.commands
        if command.startswith(start) and all(part in command for part in parts)
    ]
    return shlex.split(command)[1:]


def run(*words: str) -> None:
    assert command_line.main(words) == 0


@pytest.fixture
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "file", "quick"),
    [
        (turbofan, "train_FD001.txt", QUICK),
        (pamap2, "subject101.dat", QUICK),
        (har, "har.npz", [word for word in QUICK if word not in ("--steps", "20")]),
    ],
)
def test_a_network_is_learnt_from_the_files_as_they_are(
    make: Make, file: str, quick: list[str], here: pathlib.Path
) -> None:
    make(here)
    words = shown("tickcell train", file)

    run(*words, *quick)
    run("export", f"{words[-1]}/model.keras", "--out", "bundle")

    Bundle.load("bundle")


def test_wisdm_goes_from_its_file_to_served_outputs(
    here: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wisdm(here)
    run(*shown("tickcell train", "WISDM"), *QUICK)
    run(*shown("tickcell export", "run-wisdm"))
    run(*shown("tickcell evaluate wisdm"))
    said = capsys.readouterr()
    with server_process.temporary(*shown("tickcell serve --bundle wisdm")[1:]) as server:
        monkeypatch.setenv("TICKCELL_SERVER", server.address)
        run(*shown("tickcell replay one-person.txt"))
    replayed = capsys.readouterr()

    assert "time: column timestamp, in ns (guessed from its spacing); 20 Hz" in said.err
    assert "gaps: 1 began a new recording each" in said.err
    frames = np.array(
        [line.rstrip(";").split(",")[3:] for line in (here / "one-person.txt").read_text().split()]
    )
    frames[7, 2] = frames[6, 2]  # what was held
    expected = comparison.loop(Bundle.load("wisdm").cell(), frames.astype(np.float32))
    rows = [row.split(",")[2:] for row in replayed.out.splitlines()[1:]]
    assert np.array(rows, np.float32).tobytes() == expected.tobytes()
    assert "1 readings dropped out: z 1" in replayed.err

"""From files in the form of public data sets to served outputs, by the commands of the docs."""

from __future__ import annotations

import json
import pathlib
import shlex
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rosbags import rosbag2
from rosbags.typesys import Stores, get_typestore

import documents
import tools
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
START_NS = 1_700_000_000 * 10**9
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
    (here / "one-engine.txt").write_text("".join(line for line in lines if line[:2] == "4 "))
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
    np.save("one-window.npy", np.load("har.npz")["frames"][3])


def robot(path: pathlib.Path, seed: int) -> Any:
    """A ROS 2 bag: an Imu at 50 Hz, a wheel at 10 Hz and a state in words at 2 Hz.

    Returns:
      `[T, 2]`, what the Imu turns by and the speed of the wheel's last message.
    """
    generator = np.random.default_rng(seed)
    store = get_typestore(Stores.ROS2_HUMBLE)
    types, nothing = store.types, np.zeros(9)
    header, time = types["std_msgs/msg/Header"], types["builtin_interfaces/msg/Time"]
    vector, still = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Vector3"](0, 0, 0)
    upright = types["geometry_msgs/msg/Quaternion"](0, 0, 0, 1)
    kinds = {
        "/state": "std_msgs/msg/String",
        "/wheel": "geometry_msgs/msg/TwistStamped",
        "/imu/data": "sensor_msgs/msg/Imu",
    }
    frames = []
    with rosbag2.Writer(path, version=9) as writer:
        topics = {
            topic: writer.add_connection(topic, kind, typestore=store)
            for topic, kind in kinds.items()
        }
        for step in range(600):
            stamp_ns, is_turn = START_NS + step * 20_000_000, step // 100 % 2
            head = header(stamp=time(stamp_ns // 10**9, stamp_ns % 10**9), frame_id="robot")
            turn = generator.normal(2.0 * is_turn)
            sent: dict[str, tuple[Any, ...]] = {
                "/imu/data": (upright, nothing, vector(0, 0, turn), nothing, still, nothing)
            }
            if step % 5 == 0:
                speed = generator.normal(5)
                twist = types["geometry_msgs/msg/Twist"](vector(speed, 0, 0), still)
                sent["/wheel"] = (twist,)
            frames.append((turn, speed))
            messages = {topic: types[kinds[topic]](head, *fields) for topic, fields in sent.items()}
            if step % 25 == 0:
                messages["/state"] = types[kinds["/state"]](("drive", "turn")[is_turn])
            for place, topic in enumerate(kinds):
                if topic in messages:
                    data = store.serialize_cdr(messages[topic], kinds[topic])
                    writer.write(topics[topic], stamp_ns + (place + 1) * 500_000, data)
    return np.array(frames, np.float32)


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


def told(rows: str) -> Any:
    """Returns the outputs in rows of CSV, as they were replayed."""
    lines = [line.split(",") for line in rows.splitlines()]
    names = [place for place, name in enumerate(lines[0]) if name.startswith("output")]
    return np.array([[cells[place] for place in names] for cells in lines[1:]], np.float32)


def serve(name: str, replay: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Serves a bundle as the document shows, and replays a file through it."""
    served = shown("tickcell serve --bundle wisdm")[1:-1]
    with server_process.temporary(*served, name) as server:
        monkeypatch.setenv("TICKCELL_SERVER", server.address)
        run(*replay)


def pamap2_frames() -> Any:
    """Returns the frames of PAMAP2, the heart rate held over the rows that have none."""
    frames = np.genfromtxt("subject101.dat", usecols=(4, 5, 2))
    frames[:, 2] = frames[np.arange(len(frames)) // 11 * 11, 2]
    return frames


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "file", "quick", "replayed", "frames"),
    [
        (
            turbofan,
            "train_FD001.txt",
            QUICK,
            "one-engine.txt",
            lambda: np.loadtxt("one-engine.txt", usecols=(6, 7, 8)),
        ),
        (pamap2, "subject101.dat", QUICK, "subject101.dat", pamap2_frames),
        (
            har,
            "har.npz",
            [word for word in QUICK if word not in ("--steps", "20")],
            "one-window.npy",
            lambda: np.load("one-window.npy"),
        ),
    ],
)
def test_files_as_they_are_go_to_served_outputs(
    make: Make,
    file: str,
    quick: list[str],
    replayed: str,
    frames: Callable[[], Any],
    here: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(here)
    words = shown("tickcell train", file)
    run(*words, *quick)
    run("export", f"{words[-1]}/model.keras", "--out", "bundle")
    capsys.readouterr()

    serve("bundle", shown("tickcell replay", replayed), monkeypatch)

    expected = comparison.loop(Bundle.load("bundle").cell(), frames().astype(np.float32))
    assert told(capsys.readouterr().out).tobytes() == expected.tobytes()


@pytest.mark.slow
@tools.needs_training
def test_wisdm_goes_from_its_file_to_served_outputs(
    here: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wisdm(here)
    run(*shown("tickcell train", "WISDM"), *QUICK)
    run(*shown("tickcell export", "run-wisdm"))
    run(*shown("tickcell evaluate wisdm"))
    said = capsys.readouterr()
    serve("wisdm", shown("tickcell replay one-person.txt"), monkeypatch)
    replayed = capsys.readouterr()

    assert "time: column timestamp, in ns (guessed from its spacing); 20 Hz" in said.err
    assert "gaps: 1 began a new recording each" in said.err
    frames = np.array(
        [line.rstrip(";").split(",")[3:] for line in (here / "one-person.txt").read_text().split()]
    )
    frames[7, 2] = frames[6, 2]  # what was held
    expected = comparison.loop(Bundle.load("wisdm").cell(), frames.astype(np.float32))
    assert told(replayed.out).tobytes() == expected.tobytes()
    assert "1 readings dropped out: z 1" in replayed.err


@tools.needs_training
def test_a_robot_s_log_goes_to_served_outputs(
    here: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [robot(here / day, seed) for day, seed in (("monday", 5), ("tuesday", 6))]
    describe(here / "robot.json", "gyro_z", "speed")
    run(*shown("tickcell train --data monday"), *QUICK)
    run(*shown("tickcell export run-robot"))
    run(*shown("tickcell evaluate robot"))
    said = capsys.readouterr()
    serve("robot", shown("tickcell replay tuesday"), monkeypatch)

    assert "labels: 2 classes (drive, turn)" in said.err
    assert "tuesday: /state: held for up to 0.481 s" in said.err
    expected = comparison.loop(Bundle.load("robot").cell(), frames[1])
    assert told(capsys.readouterr().out).tobytes() == expected.tobytes()

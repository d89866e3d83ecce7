"""One recording in each form that people have it in: the served outputs are those of the loop."""

from __future__ import annotations

import gzip
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from rosbags import rosbag2
from rosbags.typesys import Stores, get_typestore

from tickcell.cli import command_line, comparison, samples
from tickcell.cli.server_process import ServerProcess
from tickcell.model import LiteRTCell

COUNT = 120
WHOLE = samples.shipped()
FRAMES, TIMES = WHOLE.frames[:COUNT], WHOLE.times[:COUNT]
NAMES = WHOLE.sensor_names
START_NS = 1_700_000_000 * 10**9

Form = Callable[[pathlib.Path], list[object]]


def cells(frame: Any) -> list[str]:
    return [str(reading) for reading in frame]


def of_a_german_spreadsheet(path: pathlib.Path) -> list[object]:
    """Semicolons, decimal commas, UTF-16, milliseconds, an empty last column."""
    file = path / "fahrt.csv"
    rows = [f"Zeit;Notiz;{';'.join(NAMES)};"]
    for time, frame in zip(TIMES, FRAMES, strict=True):
        numbers = [cell.replace(".", ",") for cell in cells(frame)]
        rows.append(f"{round(time * 1000)};gut;{';'.join(numbers)};")
    file.write_bytes("\r\n".join(rows).encode("utf-16"))
    return [file, "--time", "Zeit", "--time-unit", "ms"]


def of_a_study(path: pathlib.Path) -> list[object]:
    """Runs of spaces, no names, NaN in a column that no sensor is read from."""
    file = path / "subject101.dat"
    lines = [
        f"  {8.38 + time:.2f} 0 NaN {'  '.join(cells(frame))} \n"
        for time, frame in zip(TIMES, FRAMES, strict=True)
    ]
    file.write_text("".join(lines))
    return [file, "--columns", ",".join(["timestamp", "activity", "heart_rate", *NAMES])]


def of_readings_alone(path: pathlib.Path) -> list[object]:
    """No names, no times."""
    file = path / "acc_exp01_user01.txt"
    file.write_text("".join(f"{' '.join(cells(frame))}\n" for frame in FRAMES))
    return [file, "--columns", ",".join(NAMES)]


def of_a_logger(path: pathlib.Path) -> list[object]:
    """Packed JSON lines, dates and times."""
    file = path / "log.jsonl.gz"
    rows = [
        {
            "time": f"2024-05-01T12:00:{step * 20 // 1000:02d}.{step * 20 % 1000:03d}+02:00",
            "imu": {"reading": [float(cell) for cell in cells(frame)]},
        }
        for step, frame in enumerate(FRAMES)
    ]
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    sources = [f"--source={name}=imu.reading.{number}" for number, name in enumerate(NAMES)]
    return [file, *sources]


def of_a_data_base(path: pathlib.Path) -> list[object]:
    """Parquet: timestamps of nanoseconds, a list and a text that nobody asked for."""
    file = path / "drive.parquet"
    stamps = START_NS + np.arange(COUNT) * 20_000_000
    columns: dict[str, Any] = {name: FRAMES[:, index] for index, name in enumerate(NAMES)}
    columns["at"] = pyarrow.array(stamps, pyarrow.timestamp("ns", "UTC"))
    columns["note"] = ["x"] * COUNT
    columns["image"] = [[1, 2]] * COUNT
    parquet.write_table(pyarrow.table(columns), file)
    return [file]


def of_a_robot(path: pathlib.Path) -> list[object]:
    """A ROS 2 bag: an Imu at 50 Hz, and a second topic at 10 Hz that is held."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    vector, nothing = types["geometry_msgs/msg/Vector3"], np.zeros(9)

    def header(stamp: int) -> Any:
        time = types["builtin_interfaces/msg/Time"](stamp // 10**9, stamp % 10**9)
        return types["std_msgs/msg/Header"](stamp=time, frame_id="car")

    with rosbag2.Writer(path / "bag", version=9) as writer:
        kinds = {"/imu/data": "sensor_msgs/msg/Imu", "/wheel": "geometry_msgs/msg/TwistStamped"}
        topics = {
            topic: writer.add_connection(topic, kind, typestore=store)
            for topic, kind in kinds.items()
        }
        for step, frame in enumerate(FRAMES):
            stamp, readings = START_NS + step * 20_000_000, [float(reading) for reading in frame]
            if step % 5 == 0:
                twist = types["geometry_msgs/msg/Twist"](
                    vector(*FRAMES[step, :3].astype(float)), vector(0, 0, 0)
                )
                wheel = types[kinds["/wheel"]](header(stamp), twist)
                data = store.serialize_cdr(wheel, kinds["/wheel"])
                writer.write(topics["/wheel"], stamp - 1_000_000, data)
            imu = types[kinds["/imu/data"]](
                header(stamp),
                types["geometry_msgs/msg/Quaternion"](readings[9], 0, 0, 1),
                nothing,
                vector(*readings[6:9]),
                nothing,
                vector(*readings[3:6]),
                nothing,
            )
            data = store.serialize_cdr(imu, kinds["/imu/data"])
            writer.write(topics["/imu/data"], stamp + 2_000_000, data)
    fields = [
        *(f"/wheel.twist.linear.{axis}" for axis in "xyz"),
        *(f"/imu/data.linear_acceleration.{axis}" for axis in "xyz"),
        *(f"/imu/data.angular_velocity.{axis}" for axis in "xyz"),
        "/imu/data.orientation.x",
    ]
    pairs = zip(NAMES, fields, strict=True)
    return [path / "bag", *(f"--source={name}={field}" for name, field in pairs)]


def held(frames: Any) -> Any:
    """Holds the first three readings for five frames, as the bag does."""
    frames = frames.copy()
    frames[:, :3] = frames[np.arange(len(frames)) // 5 * 5, :3]
    return frames


@pytest.mark.parametrize(
    "form",
    [
        of_a_german_spreadsheet,
        of_a_study,
        of_readings_alone,
        of_a_logger,
        of_a_data_base,
        of_a_robot,
    ],
)
def test_every_form_of_a_recording_is_replayed_on_the_first_try(
    form: Form,
    server: ServerProcess,
    cell: LiteRTCell,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [*form(tmp_path), "--fast", "--server", server.address]

    status = command_line.main(["replay", *map(str, arguments)])

    captured = capsys.readouterr()
    assert status == 0, captured.err
    frames = held(FRAMES) if form is of_a_robot else FRAMES
    outputs = [np.float32(row.split(",")[2]) for row in captured.out.splitlines()[1:]]
    assert np.array(outputs).tobytes() == comparison.loop(cell, frames).tobytes()


def test_the_robot_s_log_says_what_was_held(
    server: ServerProcess, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*of_a_robot(tmp_path), "--fast", "--server", server.address]

    command_line.main(["replay", *map(str, arguments)])

    err = capsys.readouterr().err
    assert "bag: time: column header.stamp, not 'log_time', in ns (by its type); 50 Hz" in err
    assert "bag: ticks: the messages of /imu/data (--clock-topic names another)" in err
    assert "bag: /wheel: held for up to 0.083 s" in err

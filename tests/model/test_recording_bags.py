"""Robots' logs: a topic gives the ticks, what comes on others is held, sensors name their field."""

from __future__ import annotations

import json
import pathlib
import shutil
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mcap.writer import Writer as McapWriter
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_typestore

from tickcell.model import recording
from tickcell.model.extras import MissingExtraError
from tickcell.model.interface import Sensor
from tickcell.model.recording import Layout, RecordingError

SENSORS = (Sensor("gyro_z", "rad/s", -9, 9), Sensor("speed", "m/s", -90, 90))
SOURCES = {"gyro_z": "/imu/data.angular_velocity.z", "speed": "/wheel.twist.linear.x"}
LAYOUT = Layout(sources=SOURCES)
TICKS = 40
START_NS = 1_700_000_000 * 10**9
# Written down later than it was measured.
LAG_NS = 3_000_000

Bag = Callable[[pathlib.Path], pathlib.Path]


def stamp_ns(tick: int) -> int:
    return START_NS + tick * 20_000_000


def messages() -> list[tuple[int, str, int, float]]:
    """Returns log time, topic, stamp and reading: an Imu at 50 Hz and a wheel at 10 Hz."""
    imu = [(stamp_ns(i) + LAG_NS, "/imu/data", stamp_ns(i), i / 8) for i in range(TICKS)]
    wheel = [(stamp_ns(i) + 1_000_000, "/wheel", stamp_ns(i), 10.0 + i) for i in range(2, TICKS, 5)]
    return sorted(imu + wheel)


def expected() -> list[list[float]]:
    """Returns the frames: those from the first wheel message on, with the last one held."""
    return [[i / 8, 10.0 + (i - 2) // 5 * 5 + 2] for i in range(2, TICKS)]


def ros_messages(store: Any, *, is_old: bool) -> Any:
    types = store.types
    time, header = types["builtin_interfaces/msg/Time"], types["std_msgs/msg/Header"]
    vector, quaternion = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Quaternion"]
    for log_ns, topic, stamp, reading in messages():
        sequence = {"seq": 0} if is_old else {}
        head = header(stamp=time(stamp // 10**9, stamp % 10**9), frame_id="a", **sequence)
        if topic == "/wheel":
            kind = "geometry_msgs/msg/TwistStamped"
            twist = types["geometry_msgs/msg/Twist"](vector(reading, 0, 0), vector(0, 0, 0))
            message = types[kind](head, twist)
        else:
            kind = "sensor_msgs/msg/Imu"
            nothing = np.zeros(9)
            message = types[kind](
                head,
                quaternion(0, 0, 0, 1),
                nothing,
                vector(0, 0, reading),
                nothing,
                vector(0, 0, 0),
                nothing,
            )
        yield log_ns, topic, kind, message


def ros2(path: pathlib.Path, plugin: rosbag2.StoragePlugin) -> pathlib.Path:
    store = get_typestore(Stores.ROS2_HUMBLE)
    with rosbag2.Writer(path / "bag", version=9, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}
        for log_ns, topic, kind, message in ros_messages(store, is_old=False):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], log_ns, store.serialize_cdr(message, kind))
    return path / "bag"


def ros2_directory(path: pathlib.Path) -> pathlib.Path:
    return ros2(path, rosbag2.StoragePlugin.SQLITE3)


def db3(path: pathlib.Path) -> pathlib.Path:
    return next(ros2_directory(path).glob("*.db3"))


def ros2_mcap(path: pathlib.Path) -> pathlib.Path:
    return next(ros2(path, rosbag2.StoragePlugin.MCAP).glob("*.mcap"))


def ros1(path: pathlib.Path) -> pathlib.Path:
    store = get_typestore(Stores.ROS1_NOETIC)
    with rosbag1.Writer(path / "drive.bag") as writer:
        connections: dict[str, Any] = {}
        for log_ns, topic, kind, message in ros_messages(store, is_old=True):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], log_ns, store.serialize_ros1(message, kind))
    return path / "drive.bag"


def json_mcap(path: pathlib.Path) -> pathlib.Path:
    with (path / "drive.mcap").open("wb") as stream:
        writer = McapWriter(stream, chunk_size=1024)
        writer.start()
        channels: dict[str, int] = {}
        for log_ns, topic, stamp, reading in messages():
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, "json", 0)
            field = (
                {"twist": {"linear": {"x": reading}}}
                if topic == "/wheel"
                else {"angular_velocity": {"z": reading}}
            )
            header = {"stamp": {"sec": stamp // 10**9, "nanosec": stamp % 10**9}}
            content = json.dumps({"header": header, **field}).encode()
            writer.add_message(channels[topic], log_ns, content, log_ns)
        writer.finish()
    return path / "drive.mcap"


every_bag = pytest.mark.parametrize("bag", [ros2_directory, db3, ros2_mcap, ros1, json_mcap])


@every_bag
def test_each_message_of_the_fastest_topic_is_a_tick_and_others_are_held(
    bag: Bag, tmp_path: pathlib.Path
) -> None:
    read = recording.read(bag(tmp_path), SENSORS, LAYOUT)

    assert read.frames.tolist() == expected()
    assert read.rate_hz == pytest.approx(50)


@every_bag
def test_times_are_those_of_the_headers_and_what_is_assumed_is_said(
    bag: Bag, tmp_path: pathlib.Path
) -> None:
    read = recording.read(bag(tmp_path), SENSORS, LAYOUT)

    stamps = [stamp_ns(tick) / 10**9 for tick in range(2, TICKS)]
    np.testing.assert_allclose(read.times, stamps, rtol=0, atol=1e-6)
    assert read.notes == (
        "time: column header.stamp, not 'log_time', in ns (by its type); 50 Hz",
        "ticks: the messages of /imu/data (--clock-topic names another)",
        "ticks skipped before all topics had begun: 2",
        "/wheel: held for up to 0.082 s",
    )


def test_times_may_be_those_of_the_log(tmp_path: pathlib.Path) -> None:
    layout = Layout(sources=SOURCES, time="log_time")

    read = recording.read(db3(tmp_path), SENSORS, layout)

    assert read.times[0] == pytest.approx((stamp_ns(2) + LAG_NS) / 10**9, abs=1e-6)


def test_another_topic_may_give_the_ticks(tmp_path: pathlib.Path) -> None:
    layout = Layout(sources=SOURCES, clock_topic="/wheel")

    read = recording.read(db3(tmp_path), SENSORS, layout)

    assert read.frames.tolist() == [[(i - 1) / 8, 10.0 + i] for i in range(2, TICKS, 5)]
    assert read.rate_hz == pytest.approx(10)


def test_a_log_that_was_cut_off_gives_what_is_there(tmp_path: pathlib.Path) -> None:
    whole = json_mcap(tmp_path)
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])

    read = recording.read(cut, SENSORS, LAYOUT)

    assert 0 < len(read) < TICKS - 2
    assert read.frames.tolist() == expected()[: len(read)]
    assert "is truncated; read as far as it goes" in read.notes


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(), "'gyro_z' is not a topic and field; the topics are '/imu/data', '/wheel'"),
        (
            Layout(sources={**SOURCES, "speed": "/wheel.twist.linear.w"}),
            "topic /wheel: has no field 'twist.linear.w'; the fields there are 'x', 'y', 'z'",
        ),
        (
            Layout(sources={**SOURCES, "speed": "/wheel.header.frame_id"}),
            "/wheel.header.frame_id: got 'a', expected a number",
        ),
        (
            Layout(sources=SOURCES, clock_topic="/gps"),
            r"no topic is named '/gps' \(--clock-topic\); the topics are '/imu/data', '/wheel'",
        ),
        (
            Layout(sources=SOURCES, label="/wheel"),
            r"'/wheel' is not a topic and field; .* Name the field with --label, such as",
        ),
        (
            Layout(sources=SOURCES, recording_column="/wheel"),
            r"no topic is named '/wheel' \(--recording-column\)",
        ),
        (Layout(sources={"gyro": "/imu"}), "--source: no sensor is named 'gyro'; the sensors are"),
    ],
)
def test_what_a_log_has_not_is_told_with_what_it_has(
    layout: Layout, message: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(RecordingError, match=message):
        recording.read(db3(tmp_path), SENSORS, layout)


@pytest.mark.parametrize("name", ["drive.bag", "drive.db3", "drive.mcap"])
def test_bytes_that_are_no_log_are_refused_with_a_way_out(
    name: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / name
    path.write_bytes(b"not a log at all, but long enough to be looked at" * 4)

    with pytest.raises(RecordingError, match=f"{name}: cannot be read as a ROS bag: .* reindex"):
        recording.read(path, SENSORS, LAYOUT)


def test_a_topic_that_nobody_asked_for_is_not_taken_for_labels(tmp_path: pathlib.Path) -> None:
    layout = Layout(sources={"gyro_z": SOURCES["gyro_z"]})

    with pytest.raises(RecordingError, match=r"has no labels: .* found none"):
        recording.read_all(db3(tmp_path), SENSORS[:1], layout, labelled=True)


def test_times_may_be_those_of_a_topic_that_gives_no_ticks(tmp_path: pathlib.Path) -> None:
    layout = Layout(sources=SOURCES, time="/wheel.header.stamp.sec", on_gap="keep")

    with pytest.raises(RecordingError, match=r"got the time 1700000000 s after 1700000000 s"):
        recording.read(db3(tmp_path), SENSORS, layout)


def test_a_topic_that_nobody_asked_for_is_named(tmp_path: pathlib.Path) -> None:
    read = recording.read(db3(tmp_path), SENSORS[:1], Layout(sources={"gyro_z": SOURCES["gyro_z"]}))

    assert "ignores the topics /wheel" in read.notes


@pytest.mark.parametrize(("module", "name"), [("rosbags", "drive.bag"), ("mcap", "drive.mcap")])
def test_the_extra_that_reads_logs_is_named_where_it_is_missing(
    module: str, name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [one for one in sys.modules if one.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / name
    path.write_bytes(b"")

    with pytest.raises(MissingExtraError, match=rf"{module} is not .* 'tickcell\[bags\]'"):
        recording.read(path, SENSORS, LAYOUT)


def test_a_directory_without_metadata_is_no_log(tmp_path: pathlib.Path) -> None:
    bag = ros2_directory(tmp_path)
    shutil.copytree(bag, tmp_path / "bare", ignore=lambda *_: {"metadata.yaml"})

    with pytest.raises(RecordingError, match="bare: cannot be read: Is a directory"):
        recording.read(tmp_path / "bare", SENSORS, LAYOUT)

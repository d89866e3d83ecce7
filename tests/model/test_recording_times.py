"""The times of a recording: found by name, in a unit that is said, with no gap passed over."""

from __future__ import annotations

import datetime
import io
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcell.model import recording
from tickcell.model.interface import Sensor
from tickcell.model.recording import Block, Layout, RecordingError, open_recording
from tickcell.model.recording.blocks import Gaps
from tickcell.model.recording.delimited import DelimitedTable
from tickcell.model.recording.layout import OnGap, TimeUnit
from tickcell.model.recording.reader import Reader
from tickcell.model.recording.resampling import Resampling
from tickcell.model.recording.text import Lines
from tickcell.model.recording.times import rate_hz

SENSORS = (Sensor("a", "m", -9.0, 9.0),)
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

Write = Callable[[str], pathlib.Path]


@pytest.fixture
def write(tmp_path: pathlib.Path) -> Write:
    """Writes a text to a file, and names it."""

    def write_text(text: str) -> pathlib.Path:
        path = tmp_path / "drive.csv"
        path.write_text(text)
        return path

    return write_text


def reader_of(times: list[str], layout: Layout, name: str = "time") -> Reader:
    lines = [f"{name},a\n", *(f"{time},1\n" for time in times)]
    table = DelimitedTable(Lines(lines, "drive.csv"), ["a"], layout)
    return Reader(table, ["a"], layout)


def seconds(reader: Reader) -> list[float]:
    return [time for block in reader.blocks() for time in block.times.tolist()]


@given(
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
    hz=st.sampled_from([2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500]),
    start_s=st.sampled_from([0, 17, 1_700_000_000]),
    say=st.booleans(),
)
def test_a_unit_is_told_by_the_spacing(unit: TimeUnit, hz: int, start_s: int, say: bool) -> None:
    ticks = [start_s * PER_SECOND[unit] + step * PER_SECOND[unit] / hz for step in range(50)]
    whole = unit in ("us", "ns") or (unit == "ms" and 1000 % hz == 0)
    reader = reader_of(
        [f"{tick:.0f}" if whole else repr(tick) for tick in ticks],
        Layout(time_unit=unit if say else None),
    )

    expected = [start_s + step / hz for step in range(50)]
    assert reader.rate_hz == pytest.approx(hz, rel=1e-4)
    np.testing.assert_allclose(seconds(reader), expected, rtol=0, atol=1e-6)
    how = "as asked" if say else "guessed from its spacing"
    assert f"time: column time, in {unit} ({how}); " in next(iter(reader.notes()))


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("time_ms", "ms"),
        ("Time (s)", "s"),
        ("timestamp [us]", "us"),
        ("seconds_elapsed", None),
        ("Timestamp", None),
        ("t_ns", "ns"),
        ("micros", "us"),
    ],
)
def test_usual_names_are_known_and_may_say_the_unit(name: str, unit: str | None) -> None:
    reader = reader_of(["0", "1", "2"], Layout(), name)

    note = next(iter(reader.notes()))
    expected = "s (guessed from its spacing)" if unit is None else f"{unit} (by its name)"
    assert note.startswith(f"time: column {name}, in {expected}")


@pytest.mark.parametrize("zone", ["", "Z", "+02:00"])
def test_dates_and_times_are_read_with_their_zone(zone: str) -> None:
    reader = reader_of([f"2024-03-31T01:59:59.{step}{zone}" for step in (90, 92, 94)], Layout())

    start = datetime.datetime.fromisoformat(f"2024-03-31T01:59:59.90{zone or '+00:00'}")
    assert reader.rate_hz == pytest.approx(50, rel=1e-4)
    assert seconds(reader)[0] == start.timestamp()
    is_said = "no zone, taken to be UTC" in next(iter(reader.notes()))
    assert is_said == (zone == "")


def test_where_two_columns_could_be_the_time_the_other_is_named(write: Write) -> None:
    path = write("timestamp,a,t\n0,1,5\n10,2,5.01\n")

    read = recording.read(path, SENSORS)

    assert read.notes[0] == (
        "time: column t, not 'timestamp', in s (guessed from its spacing); 100 Hz"
    )
    assert recording.read(path, SENSORS, Layout(time="timestamp")).times.tolist() == [0, 0.01]


def test_a_sensor_is_never_the_time(write: Write) -> None:
    read = recording.read(
        write("t,time\n1,0\n1,0.1\n"), (Sensor("t", "K", 0, 9),), Layout(label=None)
    )

    assert read.times.tolist() == [0, 0.1]


def test_times_may_be_ignored_and_their_rate_is_said_to_be_assumed(write: Write) -> None:
    path = write("t,a\n0,1\n0,2\n")

    read = recording.read(path, SENSORS, Layout(time="none"), rate_hz=10)

    assert read.times.tolist() == [0, 0.1]
    assert read.notes == ("time: ignored; taken to be 10 Hz, evenly", "ignores the columns t")


def test_a_column_that_is_no_time_is_refused(write: Write) -> None:
    with pytest.raises(RecordingError, match=r"column 'time': got 'noon' in the first row"):
        recording.read(write("time,a\nnoon,1\n"), SENSORS, rate_hz=10)


def test_a_spacing_that_can_be_no_rate_is_refused() -> None:
    with pytest.raises(RecordingError, match=r"times lie 5e\+09 apart.*name it with --time-unit"):
        reader_of(["0", "5e9", "1e10"], Layout())


def test_the_expected_rate_decides_between_units(write: Write) -> None:
    path = write("t,a\n0,1\n5,2\n10,3\n")

    slow = open_recording(path, SENSORS, rate_hz=0.2)

    assert slow.rate_hz == pytest.approx(0.2)


@given(st.floats(0.01, 5000), st.integers(3, 400))
def test_a_rate_is_the_one_that_was_meant(hz: float, count: int) -> None:
    meant = float(f"{hz:.3g}")

    assert rate_hz(np.arange(count) / meant) == meant


@pytest.mark.parametrize("on_gap", ["raise", "split", "keep"])
def test_a_gap_is_refused_or_counted(on_gap: OnGap, write: Write) -> None:
    times = [*(step / 10 for step in range(20)), *(4 + step / 10 for step in range(5))]
    path = write("t,a\n" + "".join(f"{time:.1f},1\n" for time in times))
    layout = Layout(on_gap=on_gap)

    if on_gap == "raise":
        with pytest.raises(RecordingError, match=r"row 22: nothing for 2.1 s, 21 periods"):
            recording.read_all(path, SENSORS, layout)
        return
    read = recording.read_all(path, SENSORS, layout)

    assert [len(one) for one in read] == ([20, 5] if on_gap == "split" else [25])
    done = "began a new recording each" if on_gap == "split" else "were kept"
    assert read[0].notes[-1] == f"gaps: 1 {done}; the longest took 2.1 s"


def test_a_gap_within_the_bound_is_none(write: Write) -> None:
    path = write("t,a\n0,1\n0.1,1\n0.2,1\n1.2,1\n1.3,1\n")

    assert len(recording.read(path, SENSORS)) == 5
    with pytest.raises(RecordingError, match=r"nothing for 1 s, 10 periods, expected at most 9"):
        recording.read(path, SENSORS, Layout(max_gap=9))


@pytest.mark.parametrize(("on_gap", "lengths"), [("split", [2, 3]), ("keep", None)])
def test_times_that_jump_back_begin_a_new_recording_or_are_refused(
    on_gap: OnGap, lengths: list[int] | None, write: Write
) -> None:
    path = write("t,a\n5,1\n5.1,1\n0,1\n0.1,1\n0.2,1\n")

    if lengths is None:
        with pytest.raises(RecordingError, match=r"row 4: got the time 0 s after 5\.1 s"):
            recording.read_all(path, SENSORS, Layout(on_gap=on_gap))
    else:
        read = recording.read_all(path, SENSORS, Layout(on_gap=on_gap))
        assert [len(one) for one in read] == lengths


@given(
    steps=st.lists(st.sampled_from([1, 2, 3, 30, -7]), min_size=1, max_size=30),
    cuts=st.lists(st.integers(1, 7), min_size=40, max_size=40),
)
def test_gaps_are_found_wherever_the_blocks_end(steps: list[int], cuts: list[int]) -> None:
    times = np.cumsum([0, *steps]).astype(np.float64)
    frames = np.arange(len(times), dtype=np.float32).reshape(-1, 1)
    whole = Block(0, range(len(times)), frames, times, None)
    ends = [end for end in np.cumsum(cuts).tolist() if end < len(times)]
    parts = [
        whole.part(start, end) for start, end in zip([0, *ends], [*ends, len(times)], strict=True)
    ]
    gaps = Gaps("drive.csv", "row", 1.0, 10, "split")

    found = [*gaps.check(iter(parts))]

    broken = [step > 10 or step < 0 for step in steps]
    assert gaps.count == sum(broken)
    assert np.concatenate([block.frames for block in found]).tolist() == frames.tolist()
    by_frame = [block.recording for block in found for _ in block.times]
    assert by_frame == np.cumsum([0, *broken]).tolist()


@given(
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    from_hz=st.sampled_from([20, 50, 100]),
    to_hz=st.sampled_from([10, 25, 50, 130]),
)
def test_resampling_a_stream_gives_the_bits_of_the_whole(
    cuts: list[int], from_hz: int, to_hz: int
) -> None:
    generator = np.random.default_rng(sum(cuts))
    count = 200
    frames = generator.standard_normal((count, 2)).astype(np.float32)
    labels = (generator.random(count) < 0.5).astype(np.float32)
    whole = Block(0, range(count), frames, np.arange(count) / from_hz, labels)
    ends = sorted({min(count, int(end)) for end in np.cumsum(cuts)} - {count})
    parts = [whole.part(start, end) for start, end in zip([0, *ends], [*ends, count], strict=True)]
    resampling = Resampling.checked("drive.csv", from_hz, to_hz)

    streamed, at_once = ([*resampling.blocks(iter(blocks))] for blocks in (parts, [whole]))

    for field in ("frames", "times", "labels"):
        one, other = (
            np.concatenate([getattr(block, field) for block in blocks]).tobytes()
            for blocks in (streamed, at_once)
        )
        assert one == other


def test_frames_that_nobody_can_mean_are_not_made_up(write: Write) -> None:
    path = write("t,a\n0,1\n1,2\n2,3\n")

    with pytest.raises(RecordingError, match=r"98\.0% of the frames would be interpolated"):
        open_recording(path, SENSORS, to_hz=50)
    meant = open_recording(path, SENSORS, Layout(time_unit="s"), to_hz=50)
    assert sum(len(block.times) for block in meant.blocks()) == 101


def test_a_gap_is_not_filled_with_more_frames_than_can_be_meant(write: Write) -> None:
    path = write("t,a\n0,1\n0.02,1\n0.04,1\n0.06,1\n1700000000,1\n")
    blocks = open_recording(path, SENSORS, Layout(on_gap="keep"), to_hz=10).blocks()

    with pytest.raises(RecordingError, match=r"would be filled with 16999999999 frames"):
        list(blocks)


@pytest.mark.parametrize("unit", [None, "ms"])
def test_live_rows_whose_unit_cannot_be_meant_are_refused(
    unit: TimeUnit | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("t,a\n0,1\n20,1\n40,1\n"))
    blocks = open_recording("-", SENSORS, Layout(time_unit=unit), rate_hz=50).blocks()

    if unit is None:
        assert next(blocks).times.tolist() == [0]
        with pytest.raises(RecordingError, match=r"row 3: comes 20 s after.*--time-unit"):
            next(blocks)
    else:
        assert [block.times[0] for block in blocks] == [0, 0.02, 0.04]


def test_a_gap_on_standard_input_is_kept_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("t,a\n0,1\n0.02,1\n3,1\n"))
    reader = open_recording("-", SENSORS, rate_hz=50)

    assert len([*reader.blocks()]) == 3
    assert [*reader.closing_notes()] == ["gaps: 1 were kept; the longest took 2.98 s"]

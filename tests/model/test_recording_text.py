"""Delimited text is read as people have it: whatever parts its cells, and however it is packed."""

from __future__ import annotations

import gzip
import json
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcell.model import recording
from tickcell.model.interface import Sensor
from tickcell.model.recording import Layout, RecordingError, open_recording
from tickcell.model.recording.delimited import DelimitedTable
from tickcell.model.recording.reader import Reader
from tickcell.model.recording.text import Lines

SENSORS = (Sensor("a", "m", -9.0, 9.0), Sensor("b c", "m", -9.0, 9.0))
NAMES = [sensor.name for sensor in SENSORS]

Write = Callable[[str], pathlib.Path]


@pytest.fixture
def write(tmp_path: pathlib.Path) -> Write:
    """Writes a text to a file, and names it."""

    def write_text(text: str) -> pathlib.Path:
        path = tmp_path / "drive.txt"
        path.write_bytes(text.encode())
        return path

    return write_text


def read_lines(text: str, layout: Layout, names: list[str], *, live: bool) -> list[list[float]]:
    """Reads a text without a file, and returns its frames."""
    lines = text.splitlines(keepends=True)
    table = DelimitedTable(Lines(lines, "drive.txt", is_live=live), names, layout)
    blocks = Reader(table, names, layout, rate_hz=1.0).blocks()
    return [frame for block in blocks for frame in block.frames.tolist()]


readings = st.floats(-1e6, 1e6, width=32)


@given(
    frames=st.lists(st.lists(readings, min_size=3, max_size=3), min_size=1, max_size=6),
    delimiter=st.sampled_from([",", ";", "\t", "|", " "]),
    decimal=st.sampled_from([".", ","]),
    has_header=st.booleans(),
    comments=st.integers(0, 2),
    trailing=st.booleans(),
    quoted=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n"]),
    live=st.booleans(),
    say=st.booleans(),
)
def test_the_same_frames_come_out_of_every_dialect(
    frames: list[list[float]],
    delimiter: str,
    decimal: str,
    has_header: bool,
    comments: int,
    trailing: bool,
    quoted: bool,
    ending: str,
    live: bool,
    say: bool,
) -> None:
    if decimal == delimiter:
        decimal = "."
    names = ["x", "b", "c_1"]
    mark = '"' if quoted else ""
    rows = [[f"{mark}{name}{mark}" for name in names]] if has_header else []
    rows += [[repr(reading).replace(".", decimal) for reading in frame] for frame in frames]
    end = delimiter if trailing else ""
    body = [delimiter.join(row) + end for row in rows]
    lines = [f"# comment {number}" for number in range(comments)] + body
    text = "".join(line + ending for line in lines)
    layout = Layout(
        columns=() if has_header else tuple(names),
        delimiter=delimiter if say else None,
        decimal=decimal if say else None,
    )

    assert read_lines(text, layout, names, live=live) == np.array(frames, np.float32).tolist()


@given(st.lists(readings, min_size=1, max_size=5), st.booleans())
def test_one_column_is_read_whatever_its_decimal_mark(column: list[float], has_comma: bool) -> None:
    cells = [repr(reading).replace(".", "," if has_comma else ".") for reading in column]

    frames = read_lines("\n".join(["x", *cells]), Layout(), ["x"], live=False)

    assert frames == np.array(column, np.float32).reshape(-1, 1).tolist()


@pytest.mark.parametrize(
    "text",
    [
        "t;a;b c\n0;1,5;2\n0,1;3;4,5\n",
        "sep=;\nt;a;b c\n0;1,5;2\n0,1;3;4,5\n",
        "\ufefft\ta\tb c\r\n0\t1.5\t2\r\n0.1\t3\t4.5\r\n",
        't,"a","b c",note\n0,1.5,2,"x; y"\n0.1,3,4.5,"line\nbreak"\n',
        "t | a | b c\n0 | 1.5 | 2\n0.1 | 3 | 4.5\n",
        't   a  "b c"\n  0   1.5     2  \n  0.1 3  4.5\n',
        "# made by hand\n\n% twice\nt,a,b c,,\n0,1.5,2,,\n# halfway\n0.1,3,4.5,,\n",
        "% t,a,b c\n0,1.5,2\n0.1,3,4.5\n",
        " t , a , b c \n0,1.5,2\n0.1,3,4.5\n",
        '{"t": 0, "a": 1.5, "b c": 2}\n\n{"t": 0.1, "b c": 4.5, "a": 3, "more": {"x": [1]}}\n',
    ],
)
def test_what_spreadsheets_and_loggers_write_is_read(write: Write, text: str) -> None:
    read = recording.read(write(text), SENSORS)

    assert read.frames.tolist() == [[1.5, 2], [3, 4.5]]
    assert read.times.tolist() == [0, 0.1]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_packing_and_encoding_are_told_by_the_bytes(
    encoding: str, packed: bool, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "drive.csv"
    content = "t,a,b c,größe\n0,1.5,2,1\n0.1,3,4.5,2\n".encode(encoding)
    path.write_bytes(gzip.compress(content) if packed else content)

    assert recording.read(path, SENSORS).frames.tolist() == [[1.5, 2], [3, 4.5]]


def test_a_packed_file_that_was_cut_off_is_one_sentence(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "drive.csv.gz"
    rows = "".join(f"{step / 10},{step % 7},{step % 5}\n" for step in range(5000))
    path.write_bytes(gzip.compress(f"t,a,b c\n{rows}".encode())[:-2000])

    with pytest.raises(RecordingError, match=r"drive\.csv\.gz: is damaged gzip, or cut off"):
        recording.read(path, SENSORS)


def test_a_comma_within_quotes_is_the_decimal_mark_if_it_is_said_to_be(write: Write) -> None:
    read = recording.read(
        write('t,a,b c\n"0,5","1,5",2\n"0,6",3,"4,5"\n'), SENSORS, Layout(decimal=",")
    )

    assert read.frames.tolist() == [[1.5, 2], [3, 4.5]]
    assert read.times.tolist() == [0.5, 0.6]


@pytest.mark.parametrize("word", ["", "NaN", "NA", "n/a", "null", "None"])
def test_words_for_nothing_are_readings_that_drop_out(word: str, write: Write) -> None:
    path = write(f"t,a,b c\n0,1.5,2\n0.1,{word},4.5\n")

    with pytest.raises(RecordingError, match="row 3, column 'a': got nothing"):
        recording.read(path, SENSORS)
    assert np.isnan(recording.read(path, SENSORS, dropouts=True).frames[1, 0])


def test_booleans_are_1_and_0(write: Write) -> None:
    read = recording.read(write("t,a,b c\n0,True,2\n0.1,false,4.5\n"), SENSORS)

    assert read.frames[:, 0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", r"drive\.txt: has no frames, only the names of its columns\."),
        ("0,1,2\n", r"drive\.txt: got 1 frame, expected 2 or more to resample them to 50 Hz\."),
        ("3,1,2\n2,1,2\n", r"row 3: got the time 2 s after 3 s, expected times that increase"),
        ("3,1,2\n3,1,2\n", r"row 3: got the time 3 s after 3 s, expected times that increase"),
        ("0,00,1,2\n", r"row 2: cells: got 4, expected 3, one for each name"),
    ],
)
def test_what_is_wrong_with_rows_is_told_before_that_they_have_no_rate(
    rows: str, message: str, write: Write
) -> None:
    with pytest.raises(RecordingError, match=message):
        recording.read_all(write(f"t,a,b c\n{rows}"), SENSORS, to_hz=50)


@pytest.mark.parametrize(
    ("text", "layout", "message"),
    [
        (
            "0,1.5,2\n0.1,3,4.5\n",
            Layout(),
            "row 1: has 3 numbers, separated by a comma, and no names; name the columns in order "
            "with --columns, such as --columns t,x,y.",
        ),
        (
            "0 1.5 2\n",
            Layout(columns=("t", "a")),
            "--columns does not name 'b c'; it names 't', 'a'.",
        ),
        (
            "0 1.5 2\n",
            Layout(columns=("t", "a", "b c", "d")),
            "row 1: --columns names 4 columns; the row has 1 by a comma, 1 by a semicolon, 1 by a "
            "tab, 1 by a bar, 3 by spaces.",
        ),
        (
            "t;a;b c\n0;1,5;2\n0,1;1.234,5;2\n",
            Layout(),
            "row 3, column 'a': got '1.234,5', expected a number with a decimal comma.",
        ),
        (
            "t;a;b c\n0;1.5;2\n0.1;1,5;2\n",
            Layout(),
            "row 3, column 'a': got '1,5', expected a number with a decimal point.",
        ),
        (
            "t,x,y\n0,1,2\n",
            Layout(),
            "row 1: no column is named 'a', 'b c'; the columns are 't', 'x', 'y'. Name the column "
            "of a sensor with --source a=COLUMN, or in training other sensors with --sensors.",
        ),
        (
            "t,a,b c\n0,1,2\n",
            Layout(time="clock"),
            "no column is named 'clock' (--time); the columns are 't', 'a', 'b c'.",
        ),
        (
            '{"t": 0, "a": 1, "b c": 2}\n{"t": 1, "a": "x", "b c": 2}\n',
            Layout(),
            "row 2, 'a': got \"x\", expected a number, or null where there is none.",
        ),
        (
            '{"t": 0, "a": 1, "b c": 2}\n{"t": 1, "a": \n',
            Layout(),
            "row 2: is not a JSON object: Expecting value: line 2 column 1 (char 15).",
        ),
        (
            '[{"t": 0, "a": 1, "b c": 2},\n{"t": 1, "a": 1, "b c": 2}]\n',
            Layout(),
            "is one JSON array; write one part per line, as jq -c '.[]' does.",
        ),
        (
            '{\n  "t": 0, "a": 1, "b c": 2\n}\n',
            Layout(),
            "row 1: is not a JSON object by itself; write one object per line, as jq -c does.",
        ),
        (
            "logger 3\nt,a,b c\n0,1,2\n",
            Layout(),
            "row 1: does not name the columns, but a later row does; remove what is before that, "
            "or begin it with #.",
        ),
        (
            "t,a,b c\ns,m,m\n0,1,2\n",
            Layout(),
            "column 't': got 's' in the first row, expected a number, or a date and time as ISO "
            "8601 has them; remove a row that holds no readings, name another column of times "
            "with --time, or ignore them with --time none.",
        ),
        (
            't,a,b c\n0,"1,5",2\n',
            Layout(),
            "row 2, column 'a': got '1,5', expected a number; --decimal , takes the comma for the "
            "decimal mark.",
        ),
        (
            "t,a,b c\n0,1,2\n1,\0\0\n",
            Layout(),
            "row 3: has NUL bytes, as a file that was cut off by a power failure may have; remove "
            "them.",
        ),
        (
            '{"t": 0, "a": 1}\n',
            Layout(),
            "row 1: no column is named 'b c'; the columns are 't', 'a'. Name the column of a "
            "sensor with --source 'b c'=COLUMN, or in training other sensors with --sensors.",
        ),
    ],
)
def test_what_cannot_be_read_is_told_with_the_way_out(
    write: Write, text: str, layout: Layout, message: str
) -> None:
    path = write(text)

    with pytest.raises(RecordingError) as refused:
        recording.read(path, SENSORS, layout)

    assert str(refused.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"PK\x03\x04", "a workbook or a zip archive; save its table as CSV"),
        (b"\x89HDF\r\n", "HDF5; save its arrays as NPZ"),
        (b"\x89MCAP0", "an MCAP; name it .mcap"),
        (b"BZh9", "compressed by bzip2; decompress it"),
    ],
)
def test_files_that_are_no_text_are_told_by_what_they_are(
    start: bytes, what: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "drive.xlsx"
    path.write_bytes(start + b"\xff" * 99)

    with pytest.raises(RecordingError, match=f"drive.xlsx: is not text, but {what}"):
        recording.read(path, SENSORS)


def test_many_columns_that_nobody_asked_for_are_counted(write: Write) -> None:
    names = ",".join(f"c{number}" for number in range(2000))
    zeros = ",".join(["0"] * 2000)

    read = recording.read(write(f"t,a,b c,{names}\n0,1,2,{zeros}\n1,1,2,{zeros}\n"), SENSORS)

    assert read.notes[-1] == "ignores 2000 columns, such as c0, c1, c2"


def test_a_sensor_may_name_its_column(write: Write) -> None:
    layout = Layout(sources={"b c": "Gyro (rad/s)"})

    read = recording.read(write("t,a,Gyro (rad/s)\n0,1,2\n1,3,4\n"), SENSORS, layout)

    assert read.frames.tolist() == [[1, 2], [3, 4]]
    assert read.sensor_names == ("a", "b c")


def test_what_is_assumed_of_a_text_is_said(write: Write) -> None:
    read = recording.read(write("# by hand\nt;a;b c\n0;1,5;2\n0,1;3;4,5\n"), SENSORS)

    assert read.notes == (
        "time: column t, in s (guessed from its spacing); 10 Hz",
        "cells are separated by a semicolon",
        "a comma is taken for the decimal mark (--decimal)",
        "comment lines skipped: 1",
    )


def test_names_that_a_file_has_may_be_replaced_and_that_is_said(write: Write) -> None:
    path = write("zeit,x,y\n0,1,2\n0.1,3,4\n")

    read = recording.read(path, SENSORS, Layout(columns=("t", "a", "b c")))

    assert read.frames.tolist() == [[1, 2], [3, 4]]
    assert read.notes[-1] == ("the first row has names; those of --columns are used instead")


def test_json_lines_may_miss_a_reading(write: Write) -> None:
    rows = [{"t": 0, "imu": {"x": [1.0, 2.0]}}, {"t": 1, "imu": {"x": [None, 4.0]}}, {"t": 2}]
    layout = Layout(sources={"a": "imu.x.0", "b c": "imu.x.1"})
    path = write("\n".join(map(json.dumps, rows)))

    read = recording.read(path, SENSORS, layout, dropouts=True)

    assert np.isnan(read.frames).tolist() == [[False, False], [True, False], [True, True]]


def test_a_text_s_length_is_expected_before_it_is_read(write: Write) -> None:
    rows = "".join(f"{step / 100:.2f},{step % 7},{step % 5}\n" for step in range(5000))

    reader = open_recording(write(f"t,a,b c\n{rows}"), SENSORS)

    assert reader.length is None
    assert reader.expected_length == pytest.approx(5000, rel=0.15)

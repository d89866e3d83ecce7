"""A recording is read as it stands in its file, or refused with the place of what is wrong."""

from __future__ import annotations

import io
import pathlib
import queue
import threading
from collections.abc import Callable

import numpy as np
import pytest

from tickcell import drive
from tickcell.model import recording
from tickcell.model.interface import Sensor
from tickcell.model.recording import Layout, Recording, RecordingError, open_recording

Write = Callable[[str], pathlib.Path]

SENSORS = (Sensor("a", "m", -9.0, 9.0), Sensor("b", "m", -9.0, 9.0))

EXPECTED = ", expected a finite float32; --on-dropout says what to do with readings that drop out."
NOTHING = f"nothing (an empty cell, or NaN){EXPECTED}"


@pytest.fixture
def write(tmp_path: pathlib.Path) -> Write:
    """Writes a text to a file, and names it."""

    def write_text(text: str) -> pathlib.Path:
        path = tmp_path / "drive.csv"
        path.write_bytes(text.encode())
        return path

    return write_text


def refusal(
    path: pathlib.Path,
    *,
    rate_hz: float | None = None,
    label: str | None = None,
    dropouts: bool = False,
) -> str:
    """Returns the message with which a file is refused, without the directory it is in."""
    with pytest.raises(RecordingError) as refused:
        recording.read(path, SENSORS, Layout(label=label), rate_hz=rate_hz, dropouts=dropouts)
    return str(refused.value).replace(f"{path.parent}/", "")


def test_columns_are_found_by_name_and_the_others_are_told(write: Write) -> None:
    read = recording.read(
        write("note,b,t,harsh,a\nx,2,0.5,1,1\ny,4,0.7,0,3\n"), SENSORS, Layout(label="harsh")
    )

    assert read.frames.tolist() == [[1, 2], [3, 4]]
    assert read.frames.dtype == np.float32
    assert read.times.tolist() == [0.5, 0.7]
    assert read.labels is not None
    assert read.labels.tolist() == [1, 0]
    assert read.sensor_names == ("a", "b")
    assert read.label_name == "harsh"
    assert read.notes == (
        "time: column t, in s (guessed from its spacing); 5 Hz",
        "ignores the columns note",
    )
    assert read.name == "drive.csv"


def test_iterating_over_a_recording_gives_its_frames(write: Write) -> None:
    read = recording.read(write("a,b,t\n1,2,0\n3,4,1\n"), SENSORS)

    assert [frame.tolist() for frame in read] == [[1, 2], [3, 4]]
    assert len(read) == 2


def test_the_rate_is_the_median_one(write: Write) -> None:
    read = recording.read(
        write("a,b,t\n1,2,0\n1,2,0.1\n1,2,0.2\n1,2,5\n"), SENSORS, Layout(on_gap="keep")
    )

    assert read.rate_hz == pytest.approx(10)


def test_one_frame_has_no_rate(write: Write) -> None:
    assert np.isnan(recording.read(write("a,b,t\n1,2,0\n"), SENSORS).rate_hz)


def test_without_times_they_come_from_the_rate(write: Write) -> None:
    read = recording.read(write("a,b\n1,2\n3,4\n"), SENSORS, rate_hz=50)

    assert read.times.tolist() == [0, 0.02]


def test_a_label_that_nobody_asked_for_is_ignored_and_told(write: Write) -> None:
    read = recording.read(write("a,b,t,harsh\n1,2,0,1\n"), SENSORS)

    assert read.labels is None
    assert read.label_name is None
    assert read.notes[-1] == "ignores the columns harsh"


def test_a_label_that_was_asked_for_must_be_there(write: Write) -> None:
    message = refusal(write("a,b,t,harsh\n1,2,0,1\n"), label="jerky")

    assert message == (
        "drive.csv: no column is named 'jerky' (--label); the columns are 'a', 'b', 't', 'harsh'."
    )


def test_spreadsheets_quotes_marks_and_blank_rows_are_read(write: Write) -> None:
    text = '\ufeffa, b ,t,"note, long"\r\n1,2,0,"x, y"\r\n\r\n"3",4,1,\r\n'

    read = recording.read(write(text), SENSORS)

    assert read.frames.tolist() == [[1, 2], [3, 4]]
    assert read.notes[-1] == "ignores the columns note, long"


def test_standard_input_is_a_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a,b,t\n1,2,0\n"))

    read = recording.read("-", SENSORS)

    assert read.frames.tolist() == [[1, 2]]
    assert read.name == "standard input"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "drive.csv: is empty, expected a row of column names."),
        ("a,b,t\n", "drive.csv: has no frames, only the names of its columns."),
        (
            "a,t\n1,0\n",
            "drive.csv: row 1: no column is named 'b'; the columns are 'a', 't'. Name the "
            "column of a sensor with --source b=COLUMN, or in training other "
            "sensors with --sensors.",
        ),
        (
            "a,b,a,t\n1,2,3,0\n",
            "drive.csv: row 1: 2 columns are named 'a', expected one; rename the others, or "
            "name all in order with --columns.",
        ),
        (
            "a,b,t\n1,2,0\n1,2\n",
            "drive.csv: row 3: cells: got 2, expected 3, one for each name; repair the row, or "
            "remove it.",
        ),
        (
            "a,b,t\n1,2,0,9\n",
            "drive.csv: row 2: cells: got 4, expected 3, one for each name; repair the row, or "
            "remove it.",
        ),
        (
            "a,b,t\n1,2,0\n1,two,1\n",
            "drive.csv: row 3, column 'b': got 'two', expected a number; leave the cell empty "
            "where there is none.",
        ),
        ("a,b,t\n1,,0\n", f"drive.csv: row 2, column 'b': got {NOTHING}"),
        (
            "a,b,t\n1,nan,0\n",
            f"drive.csv: row 2, column 'b': got {NOTHING}",
        ),
        (
            "a,b,t\n1,2,0\n\n-inf,2,1\n",
            f"drive.csv: row 4, column 'a': got -inf{EXPECTED}",
        ),
        (
            "a,b,t\n1e39,2,0\n",
            f"drive.csv: row 2, column 'a': got 1e+39{EXPECTED}",
        ),
        (
            "a,b,t\n1,2,5\n1,2,5\n",
            "drive.csv: row 3: got the time 5 s after 5 s, expected times that increase; --time "
            "none ignores them, --on-gap split begins a new recording where they jump back (train, "
            "evaluate).",
        ),
        (
            "a,b,t\n1,2,nan\n",
            "drive.csv: row 2, column 't': got 'nan', expected a finite time; remove the row, or "
            "ignore all times with --time none.",
        ),
        (
            "a,b\n1,2\n",
            "drive.csv: has no times (such as a column 't'); name their column with --time, or its "
            "rate in Hz.",
        ),
    ],
)
def test_a_csv_is_refused_with_the_place_of_what_is_wrong(
    write: Write, text: str, message: str
) -> None:
    assert refusal(write(text)) == message


def test_a_label_is_0_or_1(write: Write) -> None:
    message = refusal(write("a,b,t,harsh\n1,2,0,0.5\n"), label="harsh")

    assert message == (
        "drive.csv: row 2, column 'harsh': got '0.5', expected 0 or 1; --label names another "
        "column."
    )


def test_bytes_that_are_no_text_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "drive.csv"
    path.write_bytes(b"a,b,t\n1,2,\xff\n")

    assert (
        refusal(path)
        == "drive.csv: is not UTF-8 or UTF-16 text: invalid start byte; save it as UTF-8."
    )


def test_a_missing_file_is_named(tmp_path: pathlib.Path) -> None:
    message = refusal(tmp_path / "none.csv")

    assert message == "none.csv: cannot be read: No such file or directory."


def test_a_rate_that_is_none_is_refused(write: Write) -> None:
    message = refusal(write("a,b\n1,2\n"), rate_hz=0.0)

    assert message == "drive.csv: got the rate 0.0 Hz, expected a number above 0."


def test_where_readings_may_drop_out_they_are_nan(write: Write) -> None:
    text = "a,b,t\n1,2,0\n,4,1\n5,inf,2\n7,nan,3\n"

    frames = recording.read(write(text), SENSORS, dropouts=True).frames

    assert np.isnan(frames).tolist() == [
        [False, False],
        [True, False],
        [False, True],
        [False, True],
    ]
    assert frames[1, 1] == 4


def test_where_readings_may_drop_out_words_are_still_refused(write: Write) -> None:
    message = refusal(write("a,b,t\n1,two,0\n"), dropouts=True)

    assert message.startswith("drive.csv: row 2, column 'b': got 'two', expected a number; leave")


def test_what_is_written_reads_back_to_the_bit(tmp_path: pathlib.Path) -> None:
    recorded = drive.record(seed=3, seconds=4)
    path = tmp_path / "drive.csv"
    with path.open("w") as file:
        recording.write_csv(recorded, file)

    read = recording.read(path, drive.SENSORS, Layout(label=drive.LABEL))

    assert read.frames.tobytes() == recorded.frames.tobytes()
    assert read.times.tobytes() == recorded.times.tobytes()
    assert read.labels is not None
    assert recorded.labels is not None
    assert read.labels.tobytes() == recorded.labels.tobytes()


def test_a_recording_without_labels_is_written_without_their_column() -> None:
    unlabelled = Recording(
        frames=np.array([[1, 2]], np.float32),
        times=np.array([0.0]),
        labels=None,
        sensor_names=("a", "b"),
        name="bare",
    )
    file = io.StringIO()

    recording.write_csv(unlabelled, file)

    assert file.getvalue() == "t,a,b\n0.0,1.0,2.0\n"


def test_labels_are_written_as_they_are() -> None:
    numbered = Recording(
        frames=np.array([[1, 2]] * 3, np.float32),
        times=np.arange(3.0),
        labels=np.array([0.25, np.nan, 3], np.float32),
        sensor_names=("a", "b"),
        name="numbered",
    )
    file = io.StringIO()

    recording.write_csv(numbered, file)

    assert [row.rpartition(",")[2] for row in file.getvalue().split()[1:]] == ["0.25", "", "3"]


def test_frames_come_as_their_lines_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    # A robot's pipe: no line exists before the frame of the line before has been taken.
    lines: queue.Queue[str] = queue.Queue()
    frames: queue.Queue[object] = queue.Queue()
    monkeypatch.setattr("sys.stdin", iter(lines.get, ""))

    def take() -> None:
        for block in open_recording("-", SENSORS).blocks():
            frames.put(block.frames.tolist())

    taker = threading.Thread(target=take)
    taker.start()
    lines.put("t,a,b\n")
    for step in range(3):
        lines.put(f"{step},{step},7\n")
        assert frames.get(timeout=30) == [[step, 7]]
    lines.put("")
    taker.join()


def test_frames_before_a_bad_line_are_given(write: Write) -> None:
    blocks = open_recording(write("a,b\n1,2\n3,x\n"), SENSORS, rate_hz=1).blocks()

    assert next(blocks).frames.tolist() == [[1, 2]]
    with pytest.raises(RecordingError, match=r"drive\.csv: row 3, column 'b': got 'x'"):
        next(blocks)


def test_a_real_recording_is_read_whole(recordings: pathlib.Path) -> None:
    read = recording.read(recordings / "trip17.csv", drive.SENSORS, Layout(label=drive.LABEL))

    assert read.frames.shape == (20292, 10)
    assert read.rate_hz == pytest.approx(50)
    assert not any(note.startswith("ignores") for note in read.notes)
    assert read.labels is not None
    assert 0.09 < read.labels.mean() < 0.12

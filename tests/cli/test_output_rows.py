"""A file of rows has each step once, and a torn last row is cut off."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tickcell.cli import output_rows

NAMES = ("aggressive",)


def output(value: float) -> np.ndarray:
    return np.array([value], np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outputs.csv"


@pytest.fixture
def three_rows(path: Path) -> Path:
    with output_rows.create(path, NAMES, has_labels=True) as rows:
        for step in range(3):
            rows.write(step / 50, output(step / 3), str(step % 2))
    return path


def test_a_row_has_step_time_output_and_label(three_rows: Path) -> None:
    assert three_rows.read_text() == (
        "step,t,output,label\n0,0.0,0.0,0\n1,0.02,0.33333334,1\n2,0.04,0.6666667,0\n"
    )


def test_without_labels_there_is_no_column_of_them(path: Path) -> None:
    with output_rows.create(path, NAMES, has_labels=False) as rows:
        rows.write(0.5, output(0.25), None)
    assert path.read_text() == "step,t,output\n0,0.5,0.25\n"


def test_several_outputs_have_their_names(path: Path) -> None:
    with output_rows.create(path, ("left", "right"), has_labels=False) as rows:
        rows.write(0.0, np.array([0.25, 0.5], np.float32), None)
    assert path.read_text() == "step,t,output_left,output_right\n0,0.0,0.25,0.5\n"


def test_a_row_is_whole_in_the_file_at_once(path: Path) -> None:
    with output_rows.create(path, NAMES, has_labels=False) as rows:
        rows.write(0.0, output(0.5), None)
        assert path.read_text().endswith("0,0.0,0.5\n")


def test_a_file_that_exists_is_not_overwritten(three_rows: Path) -> None:
    before = three_rows.read_bytes()
    with (
        pytest.raises(output_rows.RowsError, match="exists; continue it with --resume"),
        output_rows.create(three_rows, NAMES, has_labels=True),
    ):
        pass
    assert three_rows.read_bytes() == before


def test_resumed_rows_go_on_after_the_last(three_rows: Path) -> None:
    with output_rows.resume(three_rows, NAMES, has_labels=True) as rows:
        assert rows.next_step == 3
        rows.write(0.06, output(1.0), "1")
    assert three_rows.read_text().endswith("2,0.04,0.6666667,0\n3,0.06,1.0,1\n")


def test_a_label_with_marks_in_it_is_one_cell(path: Path) -> None:
    with output_rows.create(path, NAMES, has_labels=True) as rows:
        for label in ('up, "fast"', "", "sit"):
            rows.write(0.0, output(1.0), label)
    with path.open(newline="") as file:
        assert [row[3] for row in csv.reader(file)] == ["label", 'up, "fast"', "", "sit"]


def test_outputs_read_back_to_the_bit(path: Path) -> None:
    values = np.random.default_rng(0).random((200, 1), np.float32) ** 20
    with output_rows.create(path, NAMES, has_labels=False) as rows:
        for value in values:
            rows.write(0.0, value, None)
    with output_rows.resume(path, NAMES, has_labels=False) as rows:
        assert rows.outputs.tobytes() == values.tobytes()


@pytest.mark.parametrize("torn", range(1, len("2,0.04,0.6666667,0\n")))
def test_wherever_the_last_row_is_torn_it_is_cut_off(three_rows: Path, torn: int) -> None:
    whole = three_rows.read_bytes()
    three_rows.write_bytes(whole[:-torn])
    with output_rows.resume(three_rows, NAMES, has_labels=True) as rows:
        assert rows.next_step == 2
        rows.write(0.04, output(2 / 3), "0")
    assert three_rows.read_bytes() == whole


@pytest.mark.parametrize("start", [b"", b"step,t,out"])
def test_a_file_that_was_torn_in_its_header_is_begun(path: Path, start: bytes) -> None:
    path.write_bytes(start)
    with output_rows.resume(path, NAMES, has_labels=False) as rows:
        assert rows.next_step == 0
    assert path.read_text() == "step,t,output\n"


def test_a_file_that_is_not_there_is_begun(path: Path) -> None:
    with output_rows.resume(path, NAMES, has_labels=False) as rows:
        assert rows.next_step == 0
    assert path.read_text() == "step,t,output\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("step,t,output,label", "t,lin_acc_x", "row 1: got 't,lin_acc_x'"),
        ("1,0.02", "7,0.02", "row 3: got '7,0.02,0.33333334,1', expected the outputs of step 1"),
        ("0.33333334", "high", "row 3"),
        (",0.33333334,1", "", "row 3: got 0 outputs, expected 1"),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(
    three_rows: Path, old: str, new: str, message: str
) -> None:
    three_rows.write_text(three_rows.read_text().replace(old, new))
    before = three_rows.read_bytes()
    with (
        pytest.raises(output_rows.RowsError, match=message),
        output_rows.resume(three_rows, NAMES, has_labels=True),
    ):
        pass
    assert three_rows.read_bytes() == before


def test_a_file_that_got_no_row_because_of_an_error_is_removed(path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        output_rows.create(path, NAMES, has_labels=True),
    ):
        raise ZeroDivisionError
    assert not path.exists()


def test_a_file_that_has_rows_stays_whatever_happens(path: Path) -> None:
    def crash() -> None:
        with output_rows.create(path, NAMES, has_labels=False) as rows:
            rows.write(0.0, output(0.5), None)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crash()
    assert path.read_text() == "step,t,output\n0,0.0,0.5\n"

"""A Parquet file is read as a CSV of the same columns is."""

from __future__ import annotations

import pathlib

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from tickcell.model import recording
from tickcell.model.interface import Sensor
from tickcell.model.recording import Layout, RecordingError

SENSORS = (Sensor("a", "1", -10, 10), Sensor("b", "1", -10, 10))


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "drive.parquet"


def write(file: pathlib.Path, **columns: object) -> None:
    parquet.write_table(pyarrow.table(columns), file)


def test_columns_are_read_by_name(file: pathlib.Path) -> None:
    a = np.array([0.1, 0.2, 1e-30], np.float32)
    write(file, b=[1.5, 2.5, 3.5], t=[0.0, 0.1, 0.2], harsh=[0, 1, 1], a=a, note=[7, 8, 9])

    read = recording.read(file, SENSORS, Layout(label="harsh"))

    assert read.frames.tobytes() == np.array([[*a], [1.5, 2.5, 3.5]], np.float32).T.tobytes()
    assert read.times.tolist() == [0.0, 0.1, 0.2]
    assert read.labels is not None
    assert read.labels.tolist() == [0, 1, 1]
    assert read.name == "drive.parquet"
    assert read.notes[-1] == "ignores the columns note"


def test_a_missing_reading_is_named_with_row_and_column(file: pathlib.Path) -> None:
    write(file, t=[0.0, 0.1], a=[1.0, 2.0], b=[1.0, None])

    with pytest.raises(RecordingError, match=r"drive\.parquet: row 2, column 'b': got nothing"):
        recording.read(file, SENSORS)


def test_a_missing_column_is_named(file: pathlib.Path) -> None:
    write(file, t=[0.0], a=[1.0])

    with pytest.raises(RecordingError, match=r"drive\.parquet: .*'b'"):
        recording.read(file, SENSORS)


def test_bytes_that_are_no_parquet_are_refused(file: pathlib.Path) -> None:
    file.write_bytes(b"PAR1 not really")

    with pytest.raises(RecordingError, match=r"drive\.parquet: is not a Parquet file"):
        recording.read(file, SENSORS)

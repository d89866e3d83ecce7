"""Files in the form of public data sets are read as they are; the numbers are made up here."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from tickcell.model import recording
from tickcell.model.interface import Sensor
from tickcell.model.recording import Layout, RecordingError

CMAPSS_COLUMNS = (
    "unit",
    "cycle",
    *(f"setting_{number}" for number in (1, 2, 3)),
    *(f"s_{number}" for number in range(1, 22)),
)
PAMAP2_COLUMNS = (
    "timestamp",
    "activity",
    "heart_rate",
    *(
        f"{place}_{reading}"
        for place in ("hand", "chest", "ankle")
        for reading in (
            "temperature",
            *(f"acc16_{axis}" for axis in "xyz"),
            *(f"acc6_{axis}" for axis in "xyz"),
            *(f"gyro_{axis}" for axis in "xyz"),
            *(f"mag_{axis}" for axis in "xyz"),
            *(f"orientation_{number}" for number in range(4)),
        )
    ),
)


def sensors(*names: str) -> tuple[Sensor, ...]:
    return tuple(Sensor(name, "1", -1e6, 1e6) for name in names)


def test_turbofans_one_after_another_with_spaces_at_the_end(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "train_FD001.txt"
    lines = [
        f"{unit} {cycle} -0.000{cycle % 9} 0.0003 100.0 518.67 "
        + " ".join(f"{640 + unit + cycle / 100:.2f}" for _ in range(20))
        + "  \n"
        for unit, cycles in ((1, 192), (2, 287), (3, 179))
        for cycle in range(1, cycles + 1)
    ]
    path.write_text("".join(lines))
    layout = Layout(columns=CMAPSS_COLUMNS, time="cycle", time_unit="cycle", on_gap="split")

    read = recording.read_all(path, sensors("setting_3", "s_2"), layout)

    assert [len(one) for one in read] == [192, 287, 179]
    assert read[1].frames[2].tolist() == [100, np.float32(642.03)]
    assert read[0].rate_hz == 1
    assert read[0].notes == (
        "time: column cycle, in cycles (as asked); 1 Hz",
        "ignores 23 columns, such as unit, setting_1, setting_2",
        "cells are separated by spaces",
        "gaps: 2 began a new recording each",
    )


def test_features_of_561_columns_with_exponents_of_three_digits(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "X_train.txt"
    values = np.random.default_rng(1).uniform(-1, 1, (7, 561))

    def cell(value: float) -> str:
        mantissa, exponent = f"{value: .7e}".split("e")
        return f"{mantissa}e{exponent[0]}{int(exponent[1:]):03d}"

    path.write_text("".join(" " + " ".join(map(cell, row)) + "\n" for row in values))
    columns = tuple(f"f{number}" for number in range(1, 562))

    read = recording.read(path, sensors("f1", "f561"), Layout(columns=columns), rate_hz=0.78)

    np.testing.assert_allclose(read.frames, values[:, [0, 560]], rtol=1e-6)
    assert read.notes[0] == "time: none found; taken to be 0.78 Hz, evenly"


def wisdm(tmp_path: pathlib.Path, *, is_torn: bool) -> pathlib.Path:
    """Writes 20 Hz of two people: ended by semicolons, blank lines, two rows in a line."""
    path = tmp_path / "WISDM_ar_v1.1_raw.txt"
    start = 49_105_962_326_000
    rows = [
        f"{user},{activity},{start + 50_000_000 * (step + 5000 * (user % 2))},"
        f"{step / 10:.7f},{12.68 - step / 100:.6f},{0 if is_torn else '0.5039529'};"
        for user, activity in ((33, "Jogging"), (18, "Walking"))
        for step in range(100)
    ]
    rows[10] += rows.pop(11)
    rows.insert(50, "")
    if is_torn:
        rows[20] = rows[20].rpartition(",")[0] + ",;"
    path.write_text("\n".join(rows))
    return path


WISDM = Layout(columns=("user", "activity", "timestamp", "x", "y", "z"), on_gap="split")


def test_rows_that_end_in_semicolons_and_times_of_uptime(tmp_path: pathlib.Path) -> None:
    read = recording.read_all(wisdm(tmp_path, is_torn=False), sensors("x", "y", "z"), WISDM)

    assert [len(one) for one in read] == [100, 100]
    assert read[0].rate_hz == pytest.approx(20)
    assert read[0].frames[11].tolist() == np.array([1.1, 12.57, 0.5039529], np.float32).tolist()
    assert read[0].notes[0] == ("time: column timestamp, in ns (guessed from its spacing); 20 Hz")


def test_a_torn_row_is_named_or_its_reading_has_dropped_out(tmp_path: pathlib.Path) -> None:
    path = wisdm(tmp_path, is_torn=True)

    with pytest.raises(RecordingError, match=r"row 21, column 'z': got nothing"):
        recording.read_all(path, sensors("x", "y", "z"), WISDM)
    reader = recording.open_recording(path, sensors("x", "y", "z"), WISDM, dropouts=True)
    frames = np.concatenate([block.frames for block in reader.blocks()])
    assert np.argwhere(np.isnan(frames)).tolist() == [[21, 2]]


def test_54_columns_with_a_slow_sensor_that_is_mostly_nan(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "subject101.dat"
    lines = []
    for step in range(300):
        heart = "104" if step % 11 == 0 else "NaN"
        rest = " ".join(f"{2.37223 + step / 100:.5f}" for _ in PAMAP2_COLUMNS[3:])
        lines.append(f"{8.38 + step / 100:.2f} 0 {heart} {rest}\n")
    path.write_text("".join(lines))
    wanted = sensors("hand_acc16_x", "ankle_gyro_z")

    read = recording.read(path, wanted, Layout(columns=PAMAP2_COLUMNS))

    assert read.frames.shape == (300, 2)
    assert read.rate_hz == pytest.approx(100, rel=1e-6)
    with pytest.raises(RecordingError, match=r"row 2, column 'heart_rate': got nothing"):
        recording.read(path, sensors("heart_rate"), Layout(columns=PAMAP2_COLUMNS))


def test_a_phone_s_logger_of_nanoseconds_since_1970(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "Accelerometer.csv"
    start = 1_700_000_000_123_456_789
    lines = [
        f"{start + 10_000_000 * step},{step / 100:.6f},{step},{step + 1},{step + 2}\n"
        for step in range(50)
    ]
    path.write_text("time,seconds_elapsed,z,y,x\n" + "".join(lines))

    read = recording.read(path, sensors("x", "y", "z"))

    assert read.rate_hz == pytest.approx(100, rel=1e-4)
    assert read.frames[3].tolist() == [5, 4, 3]
    assert read.notes == (
        "time: column time, not 'seconds_elapsed', in ns (guessed from its spacing); 100 Hz",
    )

"""NumPy's files are read as recordings, or refused with the place of what is wrong."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tickcell.model import recording
from tickcell.model.interface import Sensor
from tickcell.model.recording import RecordingError

Save = Callable[..., pathlib.Path]

SENSORS = (Sensor("a", "m", -9.0, 9.0), Sensor("b", "m", -9.0, 9.0))
FRAMES = np.array([[1, 2], [3, 4], [5, 6]])


@pytest.fixture
def save(tmp_path: pathlib.Path) -> Save:
    """Saves arrays to an NPZ, and names it."""

    def save_arrays(**arrays: Any) -> pathlib.Path:
        path = tmp_path / "drive.npz"
        np.savez(path, **arrays)
        return path

    return save_arrays


def refusal(path: pathlib.Path) -> str:
    with pytest.raises(RecordingError) as refused:
        recording.read(path, SENSORS)
    return str(refused.value).replace(f"{path.parent}/", "")


def test_an_npy_holds_frames(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "drive.npy", FRAMES)

    read = recording.read(tmp_path / "drive.npy", SENSORS, rate_hz=10)

    assert read.frames.tolist() == FRAMES.tolist()
    assert read.frames.dtype == np.float32
    assert read.times.tolist() == [0, 0.1, 0.2]
    assert read.labels is None


def test_an_npz_may_hold_times_and_labels(save: Save) -> None:
    path = save(frames=FRAMES, times=np.array([0, 1, 2]), labels=np.array([0, 1, 1]), extra=FRAMES)

    read = recording.read(path, SENSORS)

    assert read.times.tolist() == [0, 1, 2]
    assert read.labels is not None
    assert read.labels.tolist() == [0, 1, 1]
    assert read.ignored == ("extra",)


def test_where_readings_may_drop_out_they_are_nan(save: Save) -> None:
    path = save(frames=np.array([[1, np.inf], [np.nan, 1e300]]), times=np.array([0, 1]))

    frames = recording.read(path, SENSORS, dropouts=True).frames

    assert np.isnan(frames).tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": FRAMES}, "drive.npz: has no array named 'frames', only ['x']."),
        (
            {"frames": FRAMES[:, :1]},
            "drive.npz: frames: got int64 [3, 1], expected numbers [T, 2].",
        ),
        ({"frames": FRAMES[0]}, "drive.npz: frames: got int64 [2], expected numbers [T, 2]."),
        (
            {"frames": FRAMES.astype(str)},
            "drive.npz: frames: got <U21 [3, 2], expected numbers [T, 2].",
        ),
        ({"frames": FRAMES[:0]}, "drive.npz: has no frames."),
        (
            {"frames": np.array([[1, 2], [3, np.nan]])},
            "drive.npz: frames[1, 1], 'b': got nan, expected a finite float32.",
        ),
        (
            {"frames": FRAMES, "times": np.arange(2)},
            "drive.npz: times: got int64 [2], expected numbers [3].",
        ),
        (
            {"frames": FRAMES, "times": np.array([0, 2, 2])},
            "drive.npz: times[2]: got 2, expected finite times that increase.",
        ),
        (
            {"frames": FRAMES, "times": np.array([np.nan, 2, 3])},
            "drive.npz: times[0]: got nan, expected finite times that increase.",
        ),
        (
            {"frames": FRAMES, "times": np.arange(3), "labels": np.array([0, 2, 1])},
            "drive.npz: labels[1]: got 2, expected 0 or 1.",
        ),
        ({"frames": FRAMES}, "drive.npz: has no times (a column 't'); name its rate in Hz."),
    ],
)
def test_an_npz_is_refused_with_the_place_of_what_is_wrong(
    save: Save, arrays: dict[str, np.ndarray], message: str
) -> None:
    assert refusal(save(**arrays)) == message


def test_pickled_objects_are_never_loaded(save: Save) -> None:
    message = refusal(save(frames=np.array([[print, 1]], dtype=object)))

    assert message.startswith("drive.npz: is not a file of plain arrays: Object arrays")


def test_a_damaged_file_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "drive.npz").write_bytes(b"PK\x03\x04 and then nothing")

    assert refusal(tmp_path / "drive.npz").startswith("drive.npz: is not a file of plain arrays")

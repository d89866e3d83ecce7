"""NumPy's files are read as recordings, or refused with the place of what is wrong."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcell.model import recording
from tickcell.model.interface import Sensor
from tickcell.model.recording import RecordingError

Save = Callable[..., pathlib.Path]

SENSORS = (Sensor("a", "m", -9.0, 9.0), Sensor("b", "m", -9.0, 9.0))
FRAMES = np.array([[1, 2], [3, 4], [5, 6]])
# Two sequences of three frames.
SEQUENCES = np.stack([FRAMES, -FRAMES])


@pytest.fixture
def save(tmp_path: pathlib.Path) -> Save:
    """Saves arrays to an NPZ, and names it."""

    def save_arrays(**arrays: Any) -> pathlib.Path:
        path = tmp_path / "drive.npz"
        np.savez(path, **arrays)
        return path

    return save_arrays


def refusal(path: pathlib.Path, read: Callable[..., Any] = recording.read, **options: Any) -> str:
    with pytest.raises(RecordingError) as refused:
        read(path, SENSORS, **options)
    return str(refused.value).replace(f"{path.parent}/", "")


def refusal_of(**arrays: Any) -> str:
    """What is said of an NPZ of sequences, saved where no other example has one."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "set.npz"
        np.savez(path, **arrays)
        return refusal(path, recording.read_all, rate_hz=10)


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
    assert read.notes[-1] == "ignores the columns extra"


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
            "drive.npz: frame 1, column 'labels': got 2.0, expected 0 or 1.",
        ),
        (
            {"frames": FRAMES},
            "drive.npz: has no times (such as a column 't'); name their column with --time, or its "
            "rate in Hz.",
        ),
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


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_a_label_per_sequence_is_repeated_over_its_frames(
    save: Save, shape: tuple[int, ...]
) -> None:
    path = save(frames=SEQUENCES, labels=np.array([0, 1]).reshape(shape))

    first, second = recording.read_all(path, SENSORS, rate_hz=10)

    assert first.frames.tolist() == FRAMES.tolist()
    assert second.frames.tolist() == (-FRAMES).tolist()
    assert first.labels is not None
    assert second.labels is not None
    assert (first.labels.tolist(), second.labels.tolist()) == ([0, 0, 0], [1, 1, 1])
    assert first.one_label
    assert second.one_label
    assert first.times.tolist() == second.times.tolist() == [0, 0.1, 0.2]
    assert first.name == second.name == "drive.npz"


def test_sequences_share_times_and_may_have_a_label_per_frame(save: Save) -> None:
    labels = np.array([[0, 1, 0], [1, 0, 0]])
    path = save(frames=SEQUENCES, labels=labels, times=np.array([0, 0.5, 1]))

    read = recording.read_all(path, SENSORS)

    assert [one.labels.tolist() for one in read if one.labels is not None] == labels.tolist()
    assert [one.times.tolist() for one in read] == [[0, 0.5, 1]] * 2
    assert not any(one.one_label for one in read)


@pytest.mark.parametrize("labels", [np.int64(1), np.array([1])])
def test_a_recording_may_have_one_label(save: Save, labels: Any) -> None:
    read = recording.read(save(frames=FRAMES, labels=labels), SENSORS, rate_hz=10)

    assert read.labels is not None
    assert read.labels.tolist() == [1, 1, 1]
    assert read.one_label


def test_a_file_of_one_recording_is_a_set_of_one(save: Save) -> None:
    path = save(frames=FRAMES, labels=np.array([0, 1, 0]))

    (only,) = recording.read_all(path, SENSORS, rate_hz=10)

    assert only.frames.tolist() == FRAMES.tolist()
    assert not only.one_label


@pytest.mark.parametrize("count", [1, 2])
def test_where_one_recording_is_wanted_sequences_are_refused(save: Save, count: int) -> None:
    message = refusal(save(frames=SEQUENCES[:count]), rate_hz=10)

    assert message == (
        f"drive.npz: frames: got [{count}, 3, 2], a set of sequences, expected one recording "
        "[T, 2]; only training and evaluation take a set."
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"frames": SEQUENCES[:0]},
            "frames: got [0, 3, 2], expected 1 or more sequences of 1 or more frames.",
        ),
        (
            {"frames": SEQUENCES[:, :0]},
            "frames: got [2, 0, 2], expected 1 or more sequences of 1 or more frames.",
        ),
        (
            {"frames": SEQUENCES[..., :1]},
            "frames: got int64 [2, 3, 1], expected numbers [T, 2] or [N, T, 2].",
        ),
        (
            {"frames": SEQUENCES, "labels": np.zeros(3)},
            "labels: got float64 [3], expected numbers [2] or [2, 1] or [2, 3].",
        ),
        (
            {"frames": FRAMES, "labels": np.zeros(2)},
            "labels: got float64 [2], expected numbers [] or [1] or [3].",
        ),
        (
            {"frames": FRAMES, "labels": np.int64(3)},
            "frame 0, column 'labels': got 3.0, expected 0 or 1.",
        ),
        (
            {"frames": SEQUENCES, "times": np.zeros((2, 3))},
            "times: got float64 [2, 3], expected numbers [3].",
        ),
    ],
)
def test_sequences_are_refused_with_the_array_that_is_wrong(
    arrays: dict[str, np.ndarray], message: str
) -> None:
    assert refusal_of(**arrays) == f"set.npz: {message}"


def test_ragged_sequences_are_refused_with_a_way_out() -> None:
    ragged = np.empty(2, object)
    ragged[:] = [FRAMES, FRAMES[:1]]

    message = refusal_of(frames=ragged, labels=np.zeros(2))

    assert message.endswith("(frames); sequences of different lengths need a file each.")


@given(
    place=st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 1)),
    reading=st.sampled_from([np.nan, np.inf, -np.inf, 1e300]),
)
def test_a_reading_that_is_not_finite_is_named_by_sequence_step_and_sensor(
    place: tuple[int, int, int], reading: float
) -> None:
    frames = SEQUENCES.astype(np.float64)
    frames[place] = reading

    message = refusal_of(frames=frames, labels=np.zeros(2))

    sequence, step, sensor = place
    assert message.startswith(
        f"set.npz: frames[{sequence}, {step}, {sensor}], {SENSORS[sensor].name!r}: got "
    )
    assert message.endswith("expected a finite float32.")


@given(
    place=st.one_of(st.tuples(st.integers(0, 1)), st.tuples(st.integers(0, 1), st.integers(0, 2))),
    label=st.floats(width=32, allow_nan=False).filter(lambda label: label not in (0, 1)),
)
def test_a_label_that_is_neither_0_nor_1_is_named_by_its_index(
    place: tuple[int, ...], label: float
) -> None:
    labels = np.zeros((2, 3)[: len(place)])
    labels[place] = label

    message = refusal_of(frames=SEQUENCES, labels=labels)

    sequence, frame = (*place, 0)[:2]
    assert message == (
        f"set.npz: sequence {sequence}, frame {frame}, column 'labels': got {label}, "
        "expected 0 or 1."
    )

"""A recording at another rate: what the new rate can carry stays, what it cannot goes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tickcell import drive
from tickcell.model import recording
from tickcell.model.recording import Recording, RecordingError
from tickcell.model.recording.resampling import Resampler


def sine(hz: float, *, rate_hz: float, seconds: float = 20) -> Recording:
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    readings = np.sin(2 * np.pi * hz * times).astype(np.float32)
    return Recording(readings[:, np.newaxis], times, None, ("a",), "sine")


def middle(resampled: Recording) -> np.ndarray:
    """Returns the readings without the ends, where the filter sees less than its window."""
    return resampled.frames[10:-10, 0]


def test_a_slow_signal_stays_where_it_was_in_time() -> None:
    slow = recording.resample(sine(0.5, rate_hz=50), 10)

    expected = np.sin(2 * np.pi * 0.5 * slow.times)[10:-10]
    assert np.abs(middle(slow) - expected).max() < 0.01


@pytest.mark.parametrize("hz", [6.5, 8.0, 9.5, 12.0, 21.0])
def test_what_the_new_rate_cannot_carry_does_not_fold_into_it(hz: float) -> None:
    folded = recording.resample(sine(hz, rate_hz=50), 10)

    # 0.5 % is -46 dB; taking every fifth frame would leave all of it.
    assert np.abs(middle(folded)).max() < 0.005


@pytest.mark.parametrize(("rate_hz", "count"), [(10, 200), (12.5, 250), (30, 600), (100, 1999)])
def test_any_rate_keeps_the_duration(rate_hz: float, count: int) -> None:
    resampled = recording.resample(sine(0.5, rate_hz=50), rate_hz)

    assert len(resampled) == count
    assert resampled.rate_hz == pytest.approx(rate_hz)
    expected = np.sin(2 * np.pi * 0.5 * resampled.times)[10:-10]
    assert np.abs(middle(resampled) - expected).max() < 0.02


def test_its_own_rate_changes_nothing() -> None:
    recorded = drive.record(seed=1, seconds=10)

    again = recording.resample(recorded, drive.RATE_HZ)

    np.testing.assert_allclose(again.frames, recorded.frames, atol=1e-6)
    np.testing.assert_array_equal(again.labels, recorded.labels)


def test_frame_by_frame_gives_the_same_bits_as_the_whole() -> None:
    recorded = drive.record(seed=1, seconds=10)

    whole = recording.resample(recorded, 10)

    resampler = Resampler(recorded.rate_hz, 10)
    timed = []
    for time, frame in zip(recorded.times.tolist(), recorded, strict=True):
        timed += resampler.push(time, frame)
    timed += resampler.flush()
    assert np.stack([frame for _, frame in timed]).tobytes() == whole.frames.tobytes()
    assert [time for time, _ in timed] == whole.times.tolist()


def test_an_output_is_known_four_output_periods_after_its_time() -> None:
    recorded = sine(1, rate_hz=50, seconds=2)
    resampler = Resampler(50, 10)

    delays = [
        now - time
        for now, frame in zip(recorded.times.tolist(), recorded, strict=True)
        for time, _ in resampler.push(now, frame)
    ]

    assert delays == pytest.approx([0.4] * len(delays))
    assert len(delays) == 16


def test_a_gap_in_time_is_bridged_by_a_line() -> None:
    times = np.array([0.0, 0.02, 0.04, 0.14, 0.16])
    readings = np.array([0, 0, 0, 5, 5], np.float32)

    bridged = recording.resample(Recording(readings[:, np.newaxis], times, None, ("a",), "gap"), 50)

    np.testing.assert_allclose(bridged.frames[:, 0], [0, 0, 0, 1, 2, 3, 4, 5, 5], atol=1e-5)


def test_a_label_is_that_of_the_frame_at_or_before_it() -> None:
    recorded = sine(1, rate_hz=50, seconds=1)
    labels = (np.arange(50) >= 22).astype(np.float32)

    resampled = recording.resample(dataclasses.replace(recorded, labels=labels), 10)

    assert resampled.labels is not None
    assert resampled.labels.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_one_frame_has_no_rate_to_change() -> None:
    with pytest.raises(RecordingError, match="sine: got 1 frame, expected 2 or more"):
        recording.resample(sine(1, rate_hz=50, seconds=0.02), 10)


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate_hz: float) -> None:
    with pytest.raises(ValueError, match="expected a number above 0"):
        recording.resample(sine(1, rate_hz=50, seconds=1), rate_hz)

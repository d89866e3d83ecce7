"""What drops out of a sensor is the caller's affair, and counted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tickcell.client import errors
from tickcell.client.dropout import Dropouts, Policy
from tickcell.model import Sensor

SENSORS = (Sensor("gyro", "rad/s", -2.0, 2.0), Sensor("speed", "m/s", 0.0, 50.0))


def frame(gyro: float, speed: float) -> np.ndarray:
    return np.array([gyro, speed], np.float32)


@pytest.mark.parametrize("policy", ["raise", "hold", "clip"])
def test_a_good_frame_is_itself(policy: Policy) -> None:
    dropouts = Dropouts(policy, SENSORS)
    good = frame(-2.0, 50.0)
    assert dropouts.apply(good, 0) is good
    assert dropouts.count == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_raise_names_step_and_sensor(bad: float) -> None:
    with pytest.raises(errors.FrameNotFiniteError, match=r"step 7: speed: got .*0 to 50") as raised:
        Dropouts("raise", SENSORS).apply(frame(0.0, bad), 7)
    assert (raised.value.metadata["step"], raised.value.metadata["sensor"]) == ("7", "speed")


def test_raise_tells_out_of_range_from_not_finite() -> None:
    with pytest.raises(errors.FrameOutOfRangeError, match="gyro: got -3 rad/s, expected -2 to 2"):
        Dropouts("raise", SENSORS).apply(frame(-3.0, 1.0), 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 51.0, -0.1])
def test_hold_repeats_the_sensor_s_last_good_reading(bad: float) -> None:
    dropouts = Dropouts("hold", SENSORS)
    dropouts.apply(frame(1.0, 20.0), 0)
    held = [dropouts.apply(frame(gyro, bad), 1).tolist() for gyro in (0.5, 0.25)]
    assert held == [[0.5, 20.0], [0.25, 20.0]]
    assert dropouts.counts == {"speed": 2}


def test_hold_has_nothing_to_hold_before_the_first_good_reading() -> None:
    with pytest.raises(errors.FrameNotFiniteError, match="no good reading of it came before"):
        Dropouts("hold", SENSORS).apply(frame(0.0, math.nan), 0)


def test_clip_keeps_to_the_range() -> None:
    dropouts = Dropouts("clip", SENSORS)
    assert dropouts.apply(frame(-math.inf, 99.0), 0).tolist() == [-2.0, 50.0]
    assert (dropouts.count, dropouts.counts) == (2, {"gyro": 1, "speed": 1})


def test_clip_cannot_make_a_number_of_none() -> None:
    with pytest.raises(
        errors.FrameNotFiniteError, match=r"on_dropout \(--on-dropout\) hold would continue"
    ):
        Dropouts("clip", SENSORS).apply(frame(math.nan, 1.0), 0)


def test_the_caller_s_frame_is_not_touched() -> None:
    mine = frame(9.0, 9.0)
    Dropouts("clip", SENSORS).apply(mine, 0)
    assert mine.tolist() == [9.0, 9.0]


def test_the_same_frames_again_are_mended_in_the_same_way() -> None:
    """As a call asks for whose outcome is unknown: until it is known, nothing is held anew."""
    dropouts = Dropouts("hold", SENSORS)
    dropouts.apply(frame(1.0, 20.0), 0)
    chunk = [frame(math.nan, 21.0), frame(0.5, math.nan)]
    first, again = dropouts.mend(chunk, 1), dropouts.mend(chunk, 1)
    assert np.stack(first.frames).tolist() == [[1.0, 21.0], [0.5, 21.0]]
    assert np.stack(again.frames).tolist() == np.stack(first.frames).tolist()
    assert dropouts.count == 0
    dropouts.note(first)
    assert dropouts.counts == {"gyro": 1, "speed": 1}


def test_frames_are_mended_up_to_the_first_that_cannot_be() -> None:
    dropouts = Dropouts("clip", SENSORS)
    chunk = [frame(9.0, 1.0), frame(0.0, math.nan), frame(0.0, 1.0)]
    assert [each.tolist() for each in dropouts.mend(chunk, 0).frames] == [[2.0, 1.0]]
    with pytest.raises(errors.FrameNotFiniteError, match="step 1: speed"):
        dropouts.mend(chunk[1:], 1)


def test_what_is_held_does_not_change_with_the_caller_s_array() -> None:
    dropouts, mine = Dropouts("hold", SENSORS), frame(1.0, 20.0)
    dropouts.apply(mine, 0)
    mine[:] = math.nan
    assert dropouts.apply(mine, 1).tolist() == [1.0, 20.0]


def test_each_series_holds_its_own_readings() -> None:
    dropouts = Dropouts("hold", SENSORS)
    dropouts.apply(np.stack([frame(1.0, 20.0), frame(2.0, 30.0)]), 0)
    mended = dropouts.apply(np.stack([frame(math.nan, 21.0), frame(2.0, math.nan)]), 1)
    assert mended.tolist() == [[1.0, 21.0], [2.0, 30.0]]
    with pytest.raises(errors.FrameNotFiniteError, match="step 0: series 1, speed"):
        Dropouts("raise", SENSORS).apply(np.stack([frame(0.0, 1.0), frame(0.0, math.nan)]), 0)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(errors.UsageError, match="on_dropout: got 'drop', expected raise, hold"):
        Dropouts("drop", SENSORS)  # type: ignore[arg-type] # the caller's mistake


@pytest.mark.parametrize("policy", ["raise", "hold", "clip"])
def test_a_masked_frame_is_of_no_sensor(policy: Policy) -> None:
    dropouts = Dropouts(policy, SENSORS, mask_value=-9.0)
    masked = frame(-9.0, -9.0)
    assert dropouts.apply(masked, 0) is masked
    assert dropouts.count == 0


def test_a_reading_like_the_mask_s_is_none_among_others() -> None:
    with pytest.raises(errors.FrameOutOfRangeError, match="speed: got -9 m/s, expected 0 to 50"):
        Dropouts("raise", SENSORS, mask_value=-9.0).apply(frame(1.0, -9.0), 0)


@pytest.mark.parametrize("at_once", [False, True])
def test_what_is_held_is_from_before_a_masked_frame(at_once: bool) -> None:
    dropouts = Dropouts("hold", SENSORS, mask_value=-9.0)
    frames = [frame(1.0, 20.0), frame(-9.0, -9.0), frame(0.5, math.nan)]
    if at_once:
        *_, held = dropouts.mend(frames, 0).frames
    else:
        dropouts.apply_all(np.stack(frames[:2]), 0)
        held = dropouts.apply(frames[2], 2)
    assert held.tolist() == [0.5, 20.0]


def test_each_series_is_masked_by_itself() -> None:
    dropouts = Dropouts("hold", SENSORS, mask_value=-9.0)
    both = np.stack([frame(-9.0, -9.0), frame(1.0, -9.0)])
    dropouts.apply(np.stack([frame(0.0, 3.0), frame(0.0, 4.0)]), 0)
    assert dropouts.apply(both, 1).tolist() == [[-9.0, -9.0], [1.0, 4.0]]


def test_a_fraction_of_a_whole_sensor_drops_out() -> None:
    words = (Sensor("word", "", 0, 11, whole=True),)
    with pytest.raises(errors.FrameOutOfRangeError, match=r"to 11; on_dropout .* hold would"):
        Dropouts("raise", words).apply(np.array([2.5], np.float32), 0)
    held = Dropouts("hold", words)
    held.apply(np.array([7.0], np.float32), 0)
    assert held.apply(np.array([2.5], np.float32), 1).tolist() == [7.0]
    with pytest.raises(errors.FrameOutOfRangeError, match="hold would continue"):
        Dropouts("clip", words).apply(np.array([2.5], np.float32), 0)

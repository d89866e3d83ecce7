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
    with pytest.raises(errors.FrameNotFiniteError, match="--on-dropout hold"):
        Dropouts("clip", SENSORS).apply(frame(math.nan, 1.0), 0)


def test_the_caller_s_frame_is_not_touched() -> None:
    mine = frame(9.0, 9.0)
    Dropouts("clip", SENSORS).apply(mine, 0)
    assert mine.tolist() == [9.0, 9.0]

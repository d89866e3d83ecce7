"""Which readings are good, against the rule written once more in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcell.model.interface import Sensor
from tickcell.model.ranges import Ranges, ReadingError

SENSORS = (Sensor("speed", "m/s", -2.5, 0.1), Sensor("word", "", 0, 11, whole=True))
MASK = -7.0

readings = st.one_of(
    st.floats(width=32), st.sampled_from([MASK, -2.5, float(np.float32(0.1)), 0.0, 11.0, 3.5])
)


def is_good(sensor: Sensor, reading: float) -> bool:
    lowest, highest = np.float32(sensor.min_reading), np.float32(sensor.max_reading)
    if math.isnan(reading) or not lowest <= reading <= highest:
        return False
    return reading == int(reading) if sensor.whole else True


@given(
    frames=st.lists(st.tuples(readings, readings), min_size=1, max_size=4),
    mask_value=st.sampled_from([None, MASK, 0.0]),
)
def test_readings_are_good_in_their_range_or_masked_together(
    frames: list[tuple[float, float]], mask_value: float | None
) -> None:
    ranges = Ranges(SENSORS, mask_value)

    found = ranges.are_good(np.array(frames, np.float32))

    for frame, good in zip(frames, found.tolist(), strict=True):
        is_masked = mask_value is not None and set(frame) == {mask_value}
        assert good == [
            is_masked or is_good(sensor, reading)
            for sensor, reading in zip(SENSORS, frame, strict=True)
        ]


def test_what_need_not_be_whole_is_not_looked_at() -> None:
    ranges = Ranges(SENSORS, MASK)

    ranges.check_whole(np.array([[99.0, 3.0], [MASK, MASK]], np.float32))
    with pytest.raises(ReadingError, match="word: got -7, expected a whole number from 0 to 11"):
        ranges.check_whole(np.array([[0.0, MASK]], np.float32))

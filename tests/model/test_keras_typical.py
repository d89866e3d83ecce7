"""Frames for a model without a recording are such as its sensors give."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tickcell.model.interface import Sensor, unnamed_sensors
from tickcell.model.keras import typical
from tickcell.model.keras.typical import Typical

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

SENSORS = (Sensor("a", "m", -1000, 1000), Sensor("b", "m", 300, 500))


def network(*first: Any) -> Any:
    return keras.Sequential([keras.Input((None, 2)), *first, keras.layers.GRU(3)])


def drawn(model: Any, sensors: tuple[Sensor, ...] = SENSORS, count: int = 20_000) -> Typical:
    found = typical.draw(model, sensors, np.random.default_rng(1), count)
    assert found is not None
    return found


def test_they_have_the_means_and_deviations_of_the_normalisation() -> None:
    normalisation = keras.layers.Normalization(mean=[5.0, 400.0], variance=[4.0, 100.0])

    found = drawn(network(normalisation))

    assert found.origin == "the model's normalisation"
    np.testing.assert_allclose(found.frames.mean(axis=0), [5, 400], atol=1.5)
    np.testing.assert_allclose(found.frames.std(axis=0), [2, 10], rtol=0.1)


def test_without_a_normalisation_they_fill_the_ranges() -> None:
    found = drawn(network())

    assert found.origin == "the sensors' ranges"
    np.testing.assert_allclose(found.frames.mean(axis=0), [0, 400], atol=50)
    np.testing.assert_allclose(found.frames.std(axis=0), [250, 25], rtol=0.1)


def test_no_reading_is_out_of_its_range() -> None:
    normalisation = keras.layers.Normalization(mean=[5.0, 490.0], variance=[4.0, 1e6])

    frames = drawn(network(normalisation)).frames

    assert frames[:, 1].min() == 300
    assert frames[:, 1].max() == 500


def test_readings_follow_each_other() -> None:
    readings = drawn(network()).frames[:, 0]

    assert np.corrcoef(readings[1:], readings[:-1])[0, 1] == pytest.approx(0.9, abs=0.05)


def test_without_either_nothing_is_known() -> None:
    found = typical.draw(network(), unnamed_sensors(2), np.random.default_rng(1), 10)

    assert found is None

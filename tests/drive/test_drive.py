"""The simulated drive: the same for the same seed, closed loop or recorded, eased or not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tickcell import drive
from tickcell.drive import Drive, Tick


def ticks(seed: int, seconds: float, *, eased: bool = False) -> list[Tick]:
    """Drives to the end of the road."""
    car = Drive(seed, seconds)
    driven: list[Tick] = []
    while not driven or not driven[-1].done:
        driven.append(car.tick(eased))
    return driven


def harshness(driven: list[Tick]) -> float:
    """Returns the seconds with a horizontal acceleration over 3 m/s2."""
    return sum(tick.acceleration > 3 for tick in driven) / drive.RATE_HZ


def test_the_same_seed_gives_the_same_bits() -> None:
    first, second = drive.record(7, 20), drive.record(7, 20)

    assert first.frames.tobytes() == second.frames.tobytes()
    assert first.labels is not None
    assert second.labels is not None
    assert first.labels.tobytes() == second.labels.tobytes()


def test_another_seed_is_another_drive() -> None:
    assert not np.array_equal(drive.record(7, 20).frames, drive.record(8, 20).frames)


def test_a_longer_recording_begins_with_the_shorter() -> None:
    shorter, longer = drive.record(7, 10), drive.record(7, 30)

    assert longer.frames[: len(shorter)].tobytes() == shorter.frames.tobytes()


def test_a_recording_is_the_closed_loop_that_is_never_eased() -> None:
    car = Drive(7, 30)
    driven = [car.tick() for _ in range(500)]

    recorded = drive.record(7, 10)
    assert np.stack([tick.frame for tick in driven]).tobytes() == recorded.frames.tobytes()
    assert recorded.labels is not None
    assert [tick.label for tick in driven] == recorded.labels.tolist()


def test_a_recording_says_what_it_is() -> None:
    recorded = drive.record(7, 10)

    assert recorded.frames.shape == (500, 10)
    assert recorded.frames.dtype == np.float32
    assert recorded.rate_hz == pytest.approx(drive.RATE_HZ)
    assert recorded.sensor_names == tuple(sensor.name for sensor in drive.SENSORS)
    assert recorded.name == "drive-7"


@pytest.mark.parametrize("seed", range(3))
def test_the_road_takes_about_the_planned_time_where_nothing_is_eased(seed: int) -> None:
    seconds = len(ticks(seed, 60)) / drive.RATE_HZ

    # A car that stands at the end of that time was there a little earlier.
    assert 45 < seconds <= 60


def test_a_drive_goes_on_after_its_end() -> None:
    car = Drive(1, 2)
    driven = [car.tick() for _ in range(200)]

    assert driven[-1].done
    assert driven[-1].station > driven[100].station


def test_stations_never_go_back() -> None:
    stations = [tick.station for tick in ticks(5, 60)]

    assert all(after >= before for before, after in itertools.pairwise(stations))


@pytest.fixture(scope="module")
def three_ways() -> dict[str, tuple[float, float]]:
    """Seconds of trip and of harshness: never eased, eased while the label is 1, always eased."""
    totals = dict.fromkeys(("never", "while aggressive", "always"), (0.0, 0.0))
    for seed, way in itertools.product(range(4), totals):
        car, label = Drive(seed, 150), 0
        driven: list[Tick] = []
        while not driven or not driven[-1].done:
            driven.append(car.tick(way == "always" or (way == "while aggressive" and label == 1)))
            label = driven[-1].label
        trip, harsh = totals[way]
        totals[way] = trip + len(driven) / drive.RATE_HZ, harsh + harshness(driven)
    return totals


@pytest.mark.lengthy
def test_easing_makes_a_drive_less_harsh(three_ways: dict[str, tuple[float, float]]) -> None:
    (_, never), (_, aggressive), (_, always) = three_ways.values()

    assert never > 5
    assert aggressive < 0.8 * never
    assert always < 0.8 * never


@pytest.mark.lengthy
def test_easing_what_is_aggressive_loses_a_fraction_of_the_time_of_always_easing(
    three_ways: dict[str, tuple[float, float]],
) -> None:
    (never, _), (aggressive, _), (always, _) = three_ways.values()

    assert always - never > 0.05 * never
    assert aggressive - never < 0.3 * (always - never)

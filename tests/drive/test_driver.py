"""The driver keeps to the road, its lines and its limits, eased or not."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest

from tickcell.drive.driver import Driver
from tickcell.drive.road import LANE_WIDTH_M, Kind, Manoeuvre, Road
from tickcell.drive.vehicle import Vehicle

# Their cars drive for minutes.
pytestmark = pytest.mark.lengthy

DT = 0.02
SEEDS = range(3)


class Moment(NamedTuple):
    station: float
    speed: float
    offset: float


def road(seed: int) -> Road:
    return Road(np.random.SeedSequence(seed))


def driven(seed: int, *, eased: bool, seconds: float = 300) -> list[Moment]:
    vehicle = Vehicle()
    driver = Driver(road(seed), vehicle)
    moments = []
    for _ in range(round(seconds / DT)):
        driver.drive(eased, DT)
        moments.append(Moment(driver.station, vehicle.speed, driver.offset))
    return moments


def manoeuvres(seed: int, before: float = np.inf, count: int = 500) -> list[Manoeuvre]:
    ahead = road(seed)
    first = [ahead.manoeuvre(index) for index in range(count)]
    return [manoeuvre for manoeuvre in first if manoeuvre.start < before]


def test_the_road_is_the_same_however_it_is_looked_at() -> None:
    forwards, at_once = road(4), road(4)
    far = at_once.manoeuvre(40)

    assert [forwards.manoeuvre(index) for index in range(41)][-1] == far


def test_manoeuvres_do_not_overlap_and_leave_room_to_brake() -> None:
    for seed in SEEDS:
        for before, after in itertools.pairwise(manoeuvres(seed)):
            slower_by = max(0.0, before.limit**2 - after.speed**2)
            assert after.start - slower_by / (2 * after.approach.level) > before.end


def test_aggressive_styles_build_up_faster_and_aim_higher_than_calm_ones() -> None:
    styles = [
        style
        for manoeuvre in manoeuvres(1)
        for style in (manoeuvre.approach, manoeuvre.act, manoeuvre.leave)
    ]
    calm = [style for style in styles if not style.aggressive]
    aggressive = [style for style in styles if style.aggressive]

    assert max(style.jerk for style in calm) < min(style.jerk for style in aggressive)
    assert max(style.level for style in calm) < min(style.level for style in aggressive)


def test_a_bend_turns_the_road_smoothly() -> None:
    bend = next(manoeuvre for manoeuvre in manoeuvres(1) if manoeuvre.kind is Kind.BEND)
    curvatures = [bend.curvature(at) for at in np.linspace(bend.start - 1, bend.end + 1, 2000)]

    assert curvatures[0] == curvatures[-1] == 0
    assert max(map(abs, curvatures)) == pytest.approx(bend.act.level / bend.speed**2)
    assert np.abs(np.diff(curvatures)).max() < 0.05 * max(map(abs, curvatures))


@pytest.mark.parametrize("eased", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_car_stays_in_its_lane(seed: int, eased: bool) -> None:
    farthest = max(abs(moment.offset) for moment in driven(seed, eased=eased))

    # A lane change ends a lane's width from where it began.
    assert farthest < LANE_WIDTH_M + 1.0


@pytest.mark.parametrize("eased", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_car_halts_where_the_road_says_and_nowhere_else(seed: int, eased: bool) -> None:
    moments = driven(seed, eased=eased)
    lines = [
        manoeuvre.start
        for manoeuvre in manoeuvres(seed, before=moments[-1].station - 5)
        if manoeuvre.kind is Kind.STOP
    ]
    halts = {round(moment.station, 3) for moment in moments[50:] if moment.speed == 0}

    assert lines
    for line in lines:
        assert any(line - 4 < halt < line + 1 for halt in halts)
    for halt in halts:
        assert any(line - 4 < halt < line + 1 for line in [*lines, moments[-1].station])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_driver_keeps_to_the_speed_limit(seed: int) -> None:
    ahead = manoeuvres(seed)
    limits = [Road.first_limit, *(manoeuvre.limit for manoeuvre in ahead)]
    ends = [manoeuvre.end for manoeuvre in ahead]

    excess = max(
        moment.speed - limits[int(np.searchsorted(ends, moment.station))]
        for moment in driven(seed, eased=False)
    )

    assert excess < 1.5


@pytest.mark.parametrize("seed", SEEDS)
def test_an_eased_car_is_behind_the_one_that_is_not(seed: int) -> None:
    assert driven(seed, eased=True)[-1].station < driven(seed, eased=False)[-1].station

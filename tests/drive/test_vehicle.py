"""The car obeys its equations: what it does follows from its speed and its wheels."""

from __future__ import annotations

import math

import pytest

from tickcell.drive.vehicle import (
    MAX_ACCELERATION,
    MAX_STEERING_RATE,
    WHEELBASE_M,
    Vehicle,
)

DT = 0.02


def drive_for(vehicle: Vehicle, seconds: float, acceleration: float, steering: float) -> None:
    for _ in range(round(seconds / DT)):
        vehicle.advance(acceleration, steering, DT)


def test_a_constant_turn_is_a_circle() -> None:
    car = Vehicle(speed=10.0)
    drive_for(car, 5, 0.0, 0.05)

    radius = WHEELBASE_M / math.tan(0.05)
    assert car.speed == 10.0
    assert car.yaw_rate == pytest.approx(car.speed / radius, rel=1e-6)
    assert car.lateral_acceleration == pytest.approx(car.speed**2 / radius, rel=1e-6)


def test_lateral_acceleration_is_speed_times_yaw_rate() -> None:
    car = Vehicle(speed=14.0)
    for steering in (0.02, -0.03, 0.01):
        drive_for(car, 0.3, 1.0, steering)
        assert car.lateral_acceleration == pytest.approx(car.speed * car.yaw_rate, abs=0.01)


def test_the_heading_is_the_yaw_rate_summed() -> None:
    car, turned = Vehicle(heading=1.0, speed=8.0), 1.0
    for _ in range(200):
        car.advance(0.5, 0.1, DT)
        turned += car.yaw_rate * DT

    assert car.heading == pytest.approx(turned)


def test_the_speed_is_the_acceleration_summed() -> None:
    car, speed = Vehicle(speed=5.0), 5.0
    for acceleration in (2.0, -3.0, 0.5):
        for _ in range(60):
            car.advance(acceleration, 0.0, DT)
            speed += car.acceleration * DT

    assert car.speed == pytest.approx(speed)


def test_the_pedals_act_slowly_and_then_fully() -> None:
    car = Vehicle(speed=10.0)
    car.advance(-3.0, 0.0, DT)
    assert -0.5 < car.acceleration < 0

    drive_for(car, 1.5, -3.0, 0.0)
    assert car.acceleration == pytest.approx(-3.0, rel=1e-3)


def test_the_wheels_turn_no_faster_than_they_can() -> None:
    car, before = Vehicle(speed=2.0), 0.0
    for _ in range(20):
        car.advance(0.0, 1.0, DT)
        assert car.steering - before <= MAX_STEERING_RATE * DT + 1e-12
        before = car.steering


def test_brakes_stop_the_car_and_do_not_push_it_back() -> None:
    car = Vehicle(speed=3.0)
    drive_for(car, 5, -4.0, 0.0)

    assert car.speed == 0.0
    assert car.acceleration == 0.0


@pytest.mark.parametrize("speed", [5.0, 15.0, 30.0])
def test_the_tyres_bound_the_acceleration(speed: float) -> None:
    car, largest = Vehicle(speed=speed), 0.0
    for _ in range(100):
        car.advance(-20.0, 1.0, DT)
        largest = max(largest, math.hypot(car.acceleration, car.lateral_acceleration))

    # Euler's step: the grip of one tick is that of the lateral acceleration one tick ago.
    assert largest < 1.1 * MAX_ACCELERATION


def test_the_body_rolls_into_a_turn_and_comes_to_rest() -> None:
    car = Vehicle(speed=10.0)
    drive_for(car, 0.2, 0.0, 0.05)
    assert car.roll_rate > 0.01

    drive_for(car, 6, 0.0, 0.05)
    assert abs(car.roll_rate) < 1e-4


def test_the_nose_dives_when_the_car_brakes() -> None:
    car = Vehicle(speed=20.0)
    drive_for(car, 0.3, -5.0, 0.0)

    assert car.pitch_rate > 0.01

"""The phone's readings: in range, in the Earth frame, with noise that nothing else changes."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from tickcell import drive
from tickcell.drive.sensors import GRAVITY, Phone
from tickcell.drive.surface import Surface
from tickcell.drive.vehicle import Vehicle
from tickcell.model import recording
from tickcell.model.recording import Recording

SMOOTH = (0.0, 0.0, 0.0)
NAMES = [sensor.name for sensor in drive.SENSORS]


@pytest.fixture(scope="module")
def recorded() -> Recording:
    return drive.record(11, 120)


def readings(recorded: Recording, name: str) -> np.ndarray:
    return recorded.frames[:, NAMES.index(name)]


def phone(seed: int = 5) -> Phone:
    return Phone(np.random.SeedSequence(seed))


def moving(*, heading: float = 0.0, acceleration: float = 0.0, speed: float = 10.0) -> Vehicle:
    vehicle = Vehicle(heading, speed)
    vehicle.acceleration = acceleration
    return vehicle


def test_the_ten_sensors_are_those_of_the_recordings() -> None:
    assert [
        *("lin_acc_x", "lin_acc_y", "lin_acc_z"),
        *("acc_x", "acc_y", "acc_z"),
        *("gyro_x", "gyro_y", "gyro_z"),
        "lin_acc_horizontal",
    ] == NAMES
    assert [sensor.unit for sensor in drive.SENSORS] == ["m/s2"] * 6 + ["rad/s"] * 3 + ["m/s2"]


def test_every_reading_is_finite_and_in_its_sensors_range(recorded: Recording) -> None:
    assert np.isfinite(recorded.frames).all()
    for index, sensor in enumerate(drive.SENSORS):
        assert recorded.frames[:, index].min() >= sensor.min_reading
        assert recorded.frames[:, index].max() <= sensor.max_reading


def test_acc_is_lin_acc_with_gravity_on_z(recorded: Recording) -> None:
    np.testing.assert_array_equal(readings(recorded, "acc_x"), readings(recorded, "lin_acc_x"))
    np.testing.assert_array_equal(readings(recorded, "acc_y"), readings(recorded, "lin_acc_y"))
    gravity = readings(recorded, "acc_z") - readings(recorded, "lin_acc_z")
    np.testing.assert_allclose(gravity, GRAVITY, atol=1e-5)


def test_the_horizontal_reading_is_the_length_of_x_and_y(recorded: Recording) -> None:
    length = np.hypot(readings(recorded, "lin_acc_x"), readings(recorded, "lin_acc_y"))

    np.testing.assert_allclose(readings(recorded, "lin_acc_horizontal"), length, rtol=1e-5)


def test_accelerations_are_turned_by_the_heading_into_the_earth_frame() -> None:
    east, north = phone(), phone()

    along_x = east.frame(moving(heading=0.0, acceleration=3.0, speed=0.0), SMOOTH)
    along_y = north.frame(moving(heading=np.pi / 2, acceleration=3.0, speed=0.0), SMOOTH)

    # Noise and wander stay below 1 m/s2 in a car that stands.
    assert along_x[0] == pytest.approx(3.0, abs=1.0)
    assert along_y[1] == pytest.approx(3.0, abs=1.0)
    assert abs(along_x[1]) < 1.0
    assert abs(along_y[0]) < 1.0


def test_drives_begin_in_any_direction() -> None:
    # A car that pulls away shows its heading in the mean of x and y.
    pulls = [drive.record(seed, 4).frames[:, :2].mean(axis=0) for seed in range(12)]

    assert {(x > 0, y > 0) for x, y in pulls} == {
        (right, ahead) for right in (False, True) for ahead in (False, True)
    }


def test_what_the_car_did_does_not_change_the_noise_that_follows() -> None:
    calm, wild = phone(), phone()
    for _ in range(1500):
        calm.frame(moving(speed=3.0), SMOOTH)
        wild.frame(moving(speed=25.0, acceleration=5.0), (2.0, 1.0, 3.0))

    same = moving(speed=12.0, acceleration=1.0)
    assert calm.frame(same, SMOOTH).tobytes() == wild.frame(same, SMOOTH).tobytes()


def test_noise_is_the_same_for_the_same_tick_of_a_seed() -> None:
    resting, pulling = phone(), phone()
    for _ in range(50):
        still = resting.frame(moving(speed=10.0), SMOOTH)
        pulled = pulling.frame(moving(speed=10.0, acceleration=2.0), SMOOTH)

        # The motion is all that tells the two apart.
        assert pulled[0] - still[0] == pytest.approx(2.0, abs=1e-5)
        np.testing.assert_array_equal(np.delete(pulled, [0, 3, 9]), np.delete(still, [0, 3, 9]))


def test_a_faster_car_shakes_more() -> None:
    slow, fast = phone(), phone()
    slow_z = [slow.frame(moving(speed=3.0), SMOOTH)[2] for _ in range(500)]
    fast_z = [fast.frame(moving(speed=25.0), SMOOTH)[2] for _ in range(500)]

    assert np.std(fast_z) > 2 * np.std(slow_z)


def test_readings_beyond_a_sensors_range_are_clipped() -> None:
    frame = phone().frame(moving(), (0.0, 0.0, 500.0))

    assert frame[2] == np.float32(drive.SENSORS[2].max_reading)


def test_potholes_lie_on_the_road_not_in_time() -> None:
    slow, fast = (Surface(np.random.SeedSequence(3)) for _ in range(2))
    stations = np.arange(0, 800, 0.5)
    by_slow = [slow.jolt(station, 12.0) for station in np.repeat(stations, 3)][::3]
    by_fast = [fast.jolt(station, 24.0) for station in stations]

    assert by_slow == by_fast
    assert any(jolt != SMOOTH for jolt in by_fast)


def test_a_jolt_is_short() -> None:
    surface = Surface(np.random.SeedSequence(3))
    at_10_m_s = [surface.jolt(0.2 * tick, 10.0) != SMOOTH for tick in range(5000)]
    edges = np.flatnonzero(np.diff(at_10_m_s, prepend=False, append=False))

    assert np.max(edges[1::2] - edges[::2]) / drive.RATE_HZ < 1.0


@pytest.mark.parametrize("name", NAMES)
def test_scales_are_those_of_real_recordings(
    name: str, recorded: Recording, recordings_of_cars: list[Recording]
) -> None:
    simulated = np.subtract(*np.percentile(readings(recorded, name), [95, 5]))
    real = [np.subtract(*np.percentile(readings(car, name), [95, 5])) for car in recordings_of_cars]

    assert 0.5 * min(real) < simulated < 2 * max(real)


@pytest.fixture(scope="module")
def recordings_of_cars(recordings: pathlib.Path) -> list[Recording]:
    return [
        recording.read(
            recordings / f"{trip}.csv", drive.SENSORS, recording.Layout(label=drive.LABEL)
        )
        for trip in ("trip17", "trip20")
    ]

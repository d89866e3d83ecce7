"""The ten readings of a phone on the windshield, in the Earth frame.

    lin_acc    acceleration without gravity, rotated by the heading into the Earth frame
    acc        the same with gravity on z
    gyro       rates about the car's axes; the mount's tilt lets some yaw into x and y
    lin_acc_horizontal    length of the horizontal part of lin_acc

On top of the motion come: vibration (engine, and road by speed), potholes, the wander of the
phone's own estimate of gravity, and each sensor's noise and bias. All of it is drawn from
streams of its own, one row a tick, so that what the driver does never changes the noise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tickcell.model.interface import Sensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.drive.vehicle import Vehicle

RATE_HZ = 50.0
GRAVITY = 9.81  # m/s2

_ACC_LIMIT = 78.4532  # m/s2: a phone's accelerometer measures +-8 g
_GYRO_LIMIT = 34.906585  # rad/s: its gyroscope measures +-2000 degrees/s

SENSORS: tuple[Sensor, ...] = (
    Sensor("lin_acc_x", "m/s2", -_ACC_LIMIT, _ACC_LIMIT),
    Sensor("lin_acc_y", "m/s2", -_ACC_LIMIT, _ACC_LIMIT),
    Sensor("lin_acc_z", "m/s2", -_ACC_LIMIT, _ACC_LIMIT),
    Sensor("acc_x", "m/s2", -_ACC_LIMIT, _ACC_LIMIT),
    Sensor("acc_y", "m/s2", -_ACC_LIMIT, _ACC_LIMIT),
    Sensor("acc_z", "m/s2", -_ACC_LIMIT, _ACC_LIMIT),
    Sensor("gyro_x", "rad/s", -_GYRO_LIMIT, _GYRO_LIMIT),
    Sensor("gyro_y", "rad/s", -_GYRO_LIMIT, _GYRO_LIMIT),
    Sensor("gyro_z", "rad/s", -_GYRO_LIMIT, _GYRO_LIMIT),
    Sensor("lin_acc_horizontal", "m/s2", 0.0, 110.9496),  # both axes at their limit
)

_LOWEST = np.array([sensor.min_reading for sensor in SENSORS], np.float32)
_HIGHEST = np.array([sensor.max_reading for sensor in SENSORS], np.float32)

_BLOCK = 1024  # ticks of noise drawn at a time

# Vibration at 20 m/s, standard deviations: forward, left, up in m/s2; gyro x, y, z in rad/s.
_VIBRATION = (0.65, 0.65, 0.60, 0.085, 0.085, 0.045)
# Of a standing car with its engine running.
_IDLE = (0.06, 0.06, 0.10, 0.010, 0.010, 0.006)
# The sensors' own noise, and the bias of one trip.
_NOISE = np.array([0.03, 0.03, 0.04, 0.003, 0.003, 0.003])
_BIAS = np.array([0.05, 0.05, 0.08, 0.004, 0.004, 0.004])
# Gravity that leaks into the horizontal: its estimate wanders by a degree or so in seconds.
_WANDER = 0.22  # m/s2
_WANDER_S = 4.0
_MOUNT_TILT = 0.12  # rad
_JOLT_RATE = 0.02  # rad/s for each m/s2 by which a pothole throws the car


def _vibration_kernel() -> NDArray[np.float64]:
    """Returns an FIR filter that gives white noise the spectrum of a car's vibration.

    Body bounce at 1.5 Hz and wheel hop at 12 Hz (the two modes of a quarter car) over a
    floor that is white; unit variance out for unit variance in.
    """
    taps = np.arange(64) / RATE_HZ
    bounce = 0.16 * np.exp(-taps / 0.25) * np.cos(2 * np.pi * 1.5 * taps)
    hop = 0.55 * np.exp(-taps / 0.06) * np.cos(2 * np.pi * 12.0 * taps)
    kernel = bounce + hop
    kernel[0] += 0.6
    return np.asarray(kernel / np.sqrt(np.sum(kernel**2)))


_KERNEL = _vibration_kernel()


class _Noise:
    """Rows of noise without end, drawn by the block; row k depends on the seed and k alone."""

    def __init__(self, seed: np.random.SeedSequence) -> None:
        self._rng = np.random.default_rng(seed)
        self._past = self._rng.standard_normal((len(_KERNEL) - 1, 6))
        self._wander = self._rng.standard_normal(2)
        self._rows: list[list[float]] = []
        self._next = 0

    def row(self) -> list[float]:
        """Returns the next row: six of vibration, six of sensor noise, two of wander."""
        if self._next == len(self._rows):
            self._rows = self._draw().tolist()
            self._next = 0
        self._next += 1
        return self._rows[self._next - 1]

    def _draw(self) -> NDArray[np.float64]:
        white = np.concatenate([self._past, self._rng.standard_normal((_BLOCK, 6))])
        self._past = white[_BLOCK:]
        vibration = np.stack(
            [np.convolve(white[:, axis], _KERNEL, "valid") for axis in range(6)], axis=1
        )
        noise = self._rng.standard_normal((_BLOCK, 6)) * _NOISE
        keep = math.exp(-1 / (_WANDER_S * RATE_HZ))
        kicks = self._rng.standard_normal((_BLOCK, 2)) * math.sqrt(1 - keep * keep)
        wander = np.empty((_BLOCK, 2))
        for index, kick in enumerate(kicks):
            self._wander = keep * self._wander + kick
            wander[index] = self._wander
        return np.concatenate([vibration, noise, wander * _WANDER], axis=1)


class Phone:
    """Measures the motion of a vehicle, one frame a tick."""

    def __init__(self, seed: np.random.SeedSequence) -> None:
        trip_seed, noise_seed = seed.spawn(2)
        trip = np.random.default_rng(trip_seed)
        self._bias: list[float] = (trip.standard_normal(6) * _BIAS).tolist()
        self._tilt_x, self._tilt_y = (trip.standard_normal(2) * _MOUNT_TILT).tolist()
        self._roughness = float(trip.uniform(0.6, 1.3))
        self._noise = _Noise(noise_seed)

    def frame(self, vehicle: Vehicle, jolt: tuple[float, float, float]) -> NDArray[np.float32]:
        """Returns the ten readings of this tick, `[10]` float32.

        Args:
          vehicle: whose motion is measured.
          jolt: acceleration by a pothole: forward, left, up, in m/s2.
        """
        row = self._noise.row()
        road = self._roughness * math.sqrt(vehicle.speed / 20.0)
        shake = [
            vibration * (idle + road * at_speed) + noise + bias
            for vibration, noise, bias, idle, at_speed in zip(
                row[:6], row[6:12], self._bias, _IDLE, _VIBRATION, strict=True
            )
        ]
        forward = vehicle.acceleration + jolt[0] + shake[0]
        left = vehicle.lateral_acceleration + jolt[1] + shake[1]
        cos, sin = math.cos(vehicle.heading), math.sin(vehicle.heading)
        x = cos * forward - sin * left + row[12]
        y = sin * forward + cos * left + row[13]
        z = jolt[2] + shake[2]
        yaw = vehicle.yaw_rate
        readings = (
            x,
            y,
            z,
            x,
            y,
            z + GRAVITY,
            vehicle.roll_rate - self._tilt_y * yaw + _JOLT_RATE * jolt[1] + shake[3],
            vehicle.pitch_rate + self._tilt_x * yaw + _JOLT_RATE * jolt[2] + shake[4],
            yaw + shake[5],
            math.hypot(x, y),
        )
        return np.clip(np.array(readings, np.float32), _LOWEST, _HIGHEST)

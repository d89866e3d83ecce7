"""The car: a kinematic single-track model with slow pedals and a body on springs.

The model is "KS" of M. Althoff, M. Koschi and S. Manzinger, "CommonRoad: Composable
benchmarks for motion planning on roads", IEEE Intelligent Vehicles Symposium, 2017, with
their parameters of vehicle 2 (BMW 320i). With wheelbase l, speed v and steering angle d:

    v' = a      heading' = v tan(d) / l      |d'| <= 0.4 rad/s      a^2 + (v heading')^2 <= a_max^2

Added to it: the commands act through first-order lags, as pedals, engine and steering column
do, and the body rolls and pitches on its springs (two damped oscillators, as in R. Rajamani,
"Vehicle Dynamics and Control", Springer, 2012, chapter 15, here driven by the acceleration).
"""

from __future__ import annotations

import math

WHEELBASE_M = 2.5789
MAX_STEERING_RAD = 1.066
MAX_STEERING_RATE = 0.4  # rad/s
MAX_ACCELERATION = 11.5  # m/s2, of the tyres together
ENGINE_POWER_SPEED = 7.319  # m/s; above it the engine's power, not the tyres, limits a

_PEDAL_LAG_S = 0.18
_STEERING_LAG_S = 0.12

# A family car's body: 1.5 Hz, a third of critical damping; 5 degrees of roll and 3 of pitch
# at 1 g, in radians for each m/s2.
_BODY_OMEGA = 2 * math.pi * 1.5
_BODY_DAMPING = 0.35
_ROLL_GRADIENT = math.radians(5.0) / 9.81
_PITCH_GRADIENT = math.radians(3.0) / 9.81


class Vehicle:
    """The state of the car; `advance` is one time step of explicit Euler.

    Attributes:
      speed: m/s, never negative.
      heading: radians, counter-clockwise.
      acceleration: along the car, m/s2, forward positive.
      lateral_acceleration: across the car, m/s2, left positive.
      yaw_rate, roll_rate, pitch_rate: rad/s; positive to the left, to the right, nose down.
      steering: angle of the front wheels, radians, left positive.
    """

    __slots__ = (
        "_pedal",
        "_pitch",
        "_roll",
        "acceleration",
        "heading",
        "lateral_acceleration",
        "pitch_rate",
        "roll_rate",
        "speed",
        "steering",
        "yaw_rate",
    )

    def __init__(self, heading: float = 0.0, speed: float = 0.0) -> None:
        self.speed = speed
        self.heading = heading
        self.acceleration = 0.0
        self.lateral_acceleration = 0.0
        self.yaw_rate = 0.0
        self.roll_rate = 0.0
        self.pitch_rate = 0.0
        self.steering = 0.0
        self._pedal = 0.0
        self._roll = 0.0
        self._pitch = 0.0

    def advance(self, acceleration: float, steering: float, dt: float) -> None:
        """Advances by `dt` seconds under a commanded acceleration (m/s2) and steering (rad)."""
        self._steer(steering, dt)
        self._pedal += (acceleration - self._pedal) * min(1.0, dt / _PEDAL_LAG_S)
        self._accelerate(dt)
        self.yaw_rate = self.speed * math.tan(self.steering) / WHEELBASE_M
        self.lateral_acceleration = self.speed * self.yaw_rate
        self.heading += self.yaw_rate * dt
        self._sway(dt)

    def _steer(self, steering: float, dt: float) -> None:
        wanted = max(-MAX_STEERING_RAD, min(MAX_STEERING_RAD, steering))
        # The tyres' grip bounds the curvature at this speed.
        if self.speed > 1.0:
            grip = math.atan(WHEELBASE_M * MAX_ACCELERATION / (self.speed * self.speed))
            wanted = max(-grip, min(grip, wanted))
        change = (wanted - self.steering) * min(1.0, dt / _STEERING_LAG_S)
        reach = MAX_STEERING_RATE * dt
        self.steering += max(-reach, min(reach, change))

    def _accelerate(self, dt: float) -> None:
        grip = math.sqrt(max(0.0, MAX_ACCELERATION**2 - self.lateral_acceleration**2))
        power = MAX_ACCELERATION * min(1.0, ENGINE_POWER_SPEED / max(self.speed, 0.1))
        acceleration = max(-grip, min(grip, power, self._pedal))
        # Brakes do not push a standing car backwards.
        acceleration = max(acceleration, -self.speed / dt)
        self.acceleration = acceleration
        self.speed = max(0.0, self.speed + acceleration * dt)

    def _sway(self, dt: float) -> None:
        stiffness, damping = _BODY_OMEGA * _BODY_OMEGA, 2 * _BODY_DAMPING * _BODY_OMEGA
        lean = _ROLL_GRADIENT * self.lateral_acceleration
        dive = -_PITCH_GRADIENT * self.acceleration
        self.roll_rate += (stiffness * (lean - self._roll) - damping * self.roll_rate) * dt
        self.pitch_rate += (stiffness * (dive - self._pitch) - damping * self.pitch_rate) * dt
        self._roll += self.roll_rate * dt
        self._pitch += self.pitch_rate * dt

"""The driver's feet: how fast to go, and the pedal that gets there.

The driver brakes so as to reach a manoeuvre's speed at its station, and otherwise accelerates
as in the Intelligent Driver Model on a free road (M. Treiber, A. Hennecke and D. Helbing,
"Congested traffic states in empirical observations and microscopic simulations", Physical
Review E 62, 2000): a (1 - (v / v0)^4). The pedals move at the style's jerk, and gear shifts
interrupt the pull.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tickcell.drive.road import CRUISE, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.drive.easing import Easing
    from tickcell.drive.road import Manoeuvre, Style

_GEAR_SPEEDS = (5.0, 9.5, 15.0, math.inf)  # m/s, at which a gear is left for the next
_SHIFT_S = 0.7
_AGGRESSIVE_SHIFT_S = 0.45
_RELEASE_JERK = 5.0  # m/s3; a foot leaves the brake faster than it presses it
_CLUTCH_JERK = 12.0  # m/s3, in anyone's feet
_SOFTEST_BRAKING = 0.4  # m/s2, on the last metre before a line
_REACTION_S = 0.2  # from the pedal to the brakes
_HALTED = 0.15  # m/s


class Pedals:
    """Commands the acceleration; remembers what it brakes for and how it accelerates."""

    def __init__(self) -> None:
        self._approached: Manoeuvre | None = None
        self._is_standing = False
        self._launch: Style = CRUISE
        self._waited_s = 0.0
        self._pedal = 0.0
        self._needed = 0.0
        self._shift_s = 0.0
        self._gear = 0

    @property
    def is_aggressive(self) -> bool:
        """Whether the feet do an aggressive approach or launch."""
        if self._approached is not None and self._approached.approach.aggressive:
            return not self._is_standing
        return self._launch.aggressive

    def has_waited(self, manoeuvre: Manoeuvre) -> bool:
        """Whether the car has stood for as long as a stop asks."""
        return self._waited_s >= manoeuvre.wait_s

    def leave(self, manoeuvre: Manoeuvre) -> None:
        """Ends a manoeuvre: from now on the car accelerates in its style of leaving."""
        if manoeuvre is self._approached:
            self._approached = None
            self._is_standing = False
            self._waited_s = 0.0
        if manoeuvre.kind is not Kind.LANE:
            self._launch = manoeuvre.leave

    def command(
        self,
        station: float,
        speed: float,
        limit: float,
        ahead: Sequence[Manoeuvre],
        easing: Easing,
        dt: float,
    ) -> float:
        """Returns the acceleration to command, m/s2.

        Args:
          station: the car's, m.
          speed: the car's, m/s.
          limit: the speed limit here, m/s.
          ahead: the manoeuvre under way or next, then those after it.
          easing: what the supervisor allows.
          dt: seconds since the last command.
        """
        if self._approached is None:
            self._approached = self._to_brake_for(station, speed, ahead)
        approached = self._approached
        self._needed = 0.0
        if approached is not None and station >= approached.start and approached.speed > 0:
            self._approached = approached = None
        if approached is not None and speed > approached.speed + 0.2:
            target, jerk = self._brake(approached, station, speed)
        elif approached is not None and approached.speed < _HALTED:
            target, jerk = self._stand(speed, dt)
        else:
            bound = limit if approached is None else min(limit, approached.speed)
            wanted = min(bound, _bend_speed(ahead[0], station, easing)) * easing.speed
            target, jerk = self._pull(speed, wanted, easing.slowing, dt)
        if self._pedal < min(0.0, target):
            jerk = max(jerk, _RELEASE_JERK)
        reach = jerk * dt
        self._pedal += max(-reach, min(reach, target - self._pedal))
        allowed = max(-easing.braking, min(easing.acceleration, easing.pedal * self._pedal))
        return min(allowed, max(self._pedal, -self._needed))

    def _to_brake_for(
        self, station: float, speed: float, ahead: Sequence[Manoeuvre]
    ) -> Manoeuvre | None:
        """Returns the first manoeuvre for which braking has to begin here."""
        for manoeuvre in ahead:
            distance = manoeuvre.start - station
            if manoeuvre.speed > speed - 0.5 or (distance < 0 and manoeuvre.speed > 0):
                continue
            style = manoeuvre.approach
            # Until the brake holds, the foot has to leave one pedal and press the other.
            build_up_s = (max(0.0, self._pedal) + style.level / 2) / style.jerk + _REACTION_S
            braking = (speed**2 - manoeuvre.speed**2) / (2 * style.level)
            if distance <= braking + speed * build_up_s:
                return manoeuvre
        return None

    def _brake(self, for_: Manoeuvre, station: float, speed: float) -> tuple[float, float]:
        self._launch = CRUISE
        style = for_.approach
        distance = max(for_.start - station, 0.5)
        needed = (speed * speed - for_.speed * for_.speed) / (2 * distance)
        if for_.kind is not Kind.LIMIT:
            self._needed = needed
        return -max(_SOFTEST_BRAKING, min(1.15 * style.level, needed)), style.jerk

    def _stand(self, speed: float, dt: float) -> tuple[float, float]:
        self._gear = 0
        self._is_standing = True
        if speed < _HALTED:
            self._waited_s += dt
        return -0.5, 8.0

    def _pull(self, speed: float, wanted: float, slowing: float, dt: float) -> tuple[float, float]:
        style = self._launch
        while speed < _GEAR_SPEEDS[self._gear - 1] - 1.0 and self._gear > 0:
            self._gear -= 1
        if speed > 0.82 * wanted:
            self._launch = CRUISE
        if speed > wanted:
            return -slowing * min(1.0, 0.4 * (speed - wanted)), style.jerk
        target = style.level * (1 - (speed / wanted) ** 4)
        if self._shift_s > 0:
            self._shift_s -= dt
            return 0.0, _CLUTCH_JERK
        if speed > _GEAR_SPEEDS[self._gear]:
            self._gear += 1
            if target > 0.5:
                self._shift_s = _AGGRESSIVE_SHIFT_S if style.aggressive else _SHIFT_S
        return target, style.jerk


def _bend_speed(manoeuvre: Manoeuvre, station: float, easing: Easing) -> float:
    """Returns the speed to hold in a bend, m/s; infinite where there is none."""
    curvature = abs(manoeuvre.curvature(station))
    if curvature == 0:
        return math.inf
    return min(manoeuvre.speed, math.sqrt(easing.lateral / curvature))

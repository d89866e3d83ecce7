"""The driver's hands: keep the car on the road and take it from lane to lane.

The wheel follows the road's curvature, corrected by the errors of heading and offset as in
S. Thrun et al., "Stanley: The robot that won the DARPA Grand Challenge", Journal of Field
Robotics 23, 2006. A lane change is a sine of lateral acceleration: one half out, one half back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tickcell.drive.road import LANE_WIDTH_M, Kind
from tickcell.drive.vehicle import WHEELBASE_M

if TYPE_CHECKING:
    from tickcell.drive.easing import Easing
    from tickcell.drive.road import Manoeuvre
    from tickcell.drive.vehicle import Vehicle

_HEADING_GAIN = 0.8
_OFFSET_GAIN = 0.6  # 1/s
_STEEPEST = 0.15  # rad, towards the lane
_CORRECTION = 1.5  # m/s2, the most lateral acceleration that errors are worth
_SLOWEST = 3.0  # m/s, below which the wheel is turned as at this speed


class Steering:
    """Commands the front wheels; keeps the car's place across the road.

    Attributes:
      offset: of the car from its lane's centre, m, left positive.
    """

    def __init__(self) -> None:
        self.offset = 0.0
        self._heading_error = 0.0
        self._progress = 0.0

    def is_aggressive(self, manoeuvre: Manoeuvre, station: float) -> bool:
        """Whether the hands are in an aggressive bend or lane change."""
        if not manoeuvre.act.aggressive:
            return False
        if manoeuvre.kind is Kind.LANE:
            return self._progress > 0
        return manoeuvre.kind is Kind.BEND and manoeuvre.start <= station < manoeuvre.end

    def has_changed(self) -> bool:
        """Whether the lane change under way is complete."""
        return self._progress >= 1

    def leave(self, manoeuvre: Manoeuvre) -> None:
        """Ends a manoeuvre: after a lane change, the new lane is the one to keep."""
        if manoeuvre.kind is Kind.LANE:
            self.offset -= manoeuvre.side * LANE_WIDTH_M
            self._progress = 0.0

    def command(
        self, station: float, speed: float, manoeuvre: Manoeuvre, easing: Easing, dt: float
    ) -> float:
        """Returns the angle of the front wheels to command, radians.

        Args:
          station: the car's, m.
          speed: the car's, m/s.
          manoeuvre: the one under way or next.
          easing: what the supervisor allows.
          dt: seconds since the last command.
        """
        curvature, offset, heading = manoeuvre.curvature(station), 0.0, 0.0
        speed = max(speed, _SLOWEST)
        if manoeuvre.kind is Kind.LANE and station >= manoeuvre.start:
            duration = math.sqrt(2 * math.pi * LANE_WIDTH_M / manoeuvre.act.level)
            pace = easing.lane_change / duration
            self._progress = min(1.0, self._progress + pace * dt)
            turn = 2 * math.pi * self._progress
            width = manoeuvre.side * LANE_WIDTH_M
            offset = width * (self._progress - math.sin(turn) / (2 * math.pi))
            heading = width * pace * (1 - math.cos(turn)) / speed
            curvature += width * pace**2 * 2 * math.pi * math.sin(turn) / speed**2
        back = _OFFSET_GAIN * (offset - self.offset) / speed
        heading += max(-_STEEPEST, min(_STEEPEST, back))
        correction = _HEADING_GAIN * (heading - self._heading_error)
        most = WHEELBASE_M * _CORRECTION / (speed * speed)
        return math.atan(WHEELBASE_M * curvature) + max(-most, min(most, correction))

    def move(self, vehicle: Vehicle, curvature: float, dt: float) -> float:
        """Moves the car's place across the road; returns how far it came along it, m."""
        along = vehicle.speed * math.cos(self._heading_error) * dt
        along /= max(0.2, 1 - curvature * self.offset)
        self.offset += vehicle.speed * math.sin(self._heading_error) * dt
        self._heading_error += vehicle.yaw_rate * dt - curvature * along
        return max(0.0, along)

"""The driver: goes from manoeuvre to manoeuvre along the road, calmly or aggressively.

The label says whether an aggressive manoeuvre is under way: from the first movement of the
pedal or the wheel, through gear shifts and the crossing between the two halves of a lane
change, until the car has settled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickcell.drive import easing as easings
from tickcell.drive.pedals import Pedals
from tickcell.drive.road import Kind
from tickcell.drive.steering import Steering

if TYPE_CHECKING:
    from tickcell.drive.road import Manoeuvre, Road
    from tickcell.drive.vehicle import Vehicle

_LOOK_AHEAD = 2  # manoeuvres
_SETTLE_S = 0.7  # the body comes to rest on its springs in about that


class Driver:
    """Drives a vehicle along a road.

    Attributes:
      station: how far along the road the car is, m.
    """

    def __init__(self, road: Road, vehicle: Vehicle) -> None:
        self.station = 0.0
        self._road = road
        self._vehicle = vehicle
        self._pedals = Pedals()
        self._steering = Steering()
        self._index = 0
        self._limit = road.first_limit
        self._settle_s = 0.0

    @property
    def is_aggressive(self) -> bool:
        """Whether an aggressive manoeuvre is under way: the label."""
        return self._settle_s > 0

    @property
    def offset(self) -> float:
        """How far the car is to the left of its lane's centre, m."""
        return self._steering.offset

    def drive(self, eased: bool, dt: float) -> None:
        """Advances the vehicle, and the driver with it, by `dt` seconds."""
        vehicle, easing = self._vehicle, easings.EASED if eased else easings.NONE
        ahead = [self._road.manoeuvre(self._index + k) for k in range(_LOOK_AHEAD)]
        here = ahead[0]
        acceleration = self._pedals.command(
            self.station, vehicle.speed, self._limit, ahead, easing, dt
        )
        steering = self._steering.command(self.station, vehicle.speed, here, easing, dt)
        vehicle.advance(acceleration, steering, dt)
        self.station += self._steering.move(vehicle, here.curvature(self.station), dt)
        if self._pedals.is_aggressive or self._steering.is_aggressive(here, self.station):
            self._settle_s = _SETTLE_S
        else:
            self._settle_s -= dt
        if self._is_over(here):
            self._index += 1
            self._limit = here.limit
            self._pedals.leave(here)
            self._steering.leave(here)

    def _is_over(self, manoeuvre: Manoeuvre) -> bool:
        if manoeuvre.kind is Kind.STOP:
            return self._pedals.has_waited(manoeuvre)
        if manoeuvre.kind is Kind.LANE:
            return self._steering.has_changed()
        return self.station >= manoeuvre.end

"""What the supervisor allows while it eases the driver's pedals and steering.

Easing never takes the car out of its lane or past the line where it has to stop: braking that
a bend or a line asks for is granted, and a bend is eased by slowing down in it. Braking for a
lower limit is eased, so an eased car may pass its sign too fast, which can even save time.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Easing:
    """The limits of an eased tick.

    Attributes:
      pedal: the share of the driver's pedal that acts.
      acceleration, braking: the most that acts, m/s2.
      slowing: how hard the driver slows down where the car is merely too fast, m/s2; without
        easing, by lifting the foot.
      lateral: the lateral acceleration down to which the car slows in a bend, m/s2.
      speed: the share of the driver's cruising speed.
      lane_change: the share of the driver's pace in changing lanes.
    """

    pedal: float
    acceleration: float
    braking: float
    slowing: float
    lateral: float
    speed: float
    lane_change: float


NONE = Easing(
    pedal=1.0,
    acceleration=20.0,
    braking=20.0,
    slowing=1.0,
    lateral=20.0,
    speed=1.0,
    lane_change=1.0,
)
EASED = Easing(
    pedal=0.6, acceleration=1.2, braking=2.0, slowing=3.0, lateral=2.2, speed=0.9, lane_change=0.6
)

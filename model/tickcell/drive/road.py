"""The road: what the driver meets on it, one manoeuvre after another, drawn from a seed.

Places are stations, metres along the road. A manoeuvre has three phases, each in a style of
its own: the approach (braking down to the manoeuvre's speed), the act, and leaving it
(accelerating to the limit that holds after it).
"""

from __future__ import annotations

import dataclasses
import enum
import math

import numpy as np

_Range = tuple[float, float]

LANE_WIDTH_M = 3.5

_LIMITS = (8.3, 13.9, 19.4, 25.0)  # m/s: 30, 50, 70 and 90 km/h
_CALM_JERK = (0.9, 1.8)  # m/s3
_HARD_JERK = (6.0, 12.0)
_SHARES = (0.25, 0.22, 0.15, 0.15, 0.23)  # of bends, junctions, stops, limits, lane changes
_AGGRESSIVE_SHARE = 0.38  # of manoeuvres; about 10 % of the time


@dataclasses.dataclass(frozen=True, slots=True)
class Style:
    """How a driver does one phase of a manoeuvre.

    Attributes:
      aggressive: whether a passenger would call it so.
      level: the acceleration it aims at, m/s2.
      jerk: how fast that is built up, m/s3. What sets an aggressive phase apart is the
        build-up as much as the level.
    """

    aggressive: bool
    level: float
    jerk: float


CRUISE = Style(aggressive=False, level=1.2, jerk=1.2)


class Kind(enum.Enum):
    """What a manoeuvre is."""

    BEND = "bend"
    STOP = "stop"
    LIMIT = "limit"
    LANE = "lane"


@dataclasses.dataclass(frozen=True, slots=True)
class Manoeuvre:
    """One thing to do on the road.

    Attributes:
      kind: what it is.
      start, end: stations, m; `end` is where a bend is over.
      speed: to be reached at `start` and held to `end`, m/s.
      limit: the speed limit after it, m/s.
      approach, act, leave: the styles of its phases. The level of `act` is the lateral
        acceleration of a bend or lane change.
      side: +1 to the left, -1 to the right, 0 where it has none.
      wait_s: how long a stop lasts.
      easing_m: the length over which a bend's curvature builds up, and down again.
    """

    kind: Kind
    start: float
    end: float
    speed: float
    limit: float
    approach: Style
    act: Style
    leave: Style
    side: int = 0
    wait_s: float = 0.0
    easing_m: float = 0.0

    def curvature(self, station: float) -> float:
        """Returns the curvature that the manoeuvre gives the road at a station, 1/m."""
        if self.kind is not Kind.BEND or not self.start < station < self.end:
            return 0.0
        ramp = min(station - self.start, self.end - station) / self.easing_m
        return self.side * min(1.0, ramp) * self.act.level / (self.speed * self.speed)


class Road:
    """Manoeuvres in the order of their stations, without end; the same for the same seed.

    Attributes:
      first_limit: the speed limit before the first manoeuvre, m/s.
    """

    first_limit = _LIMITS[1]

    def __init__(self, seed: np.random.SeedSequence) -> None:
        self._rng = np.random.default_rng(seed)
        self._manoeuvres: list[Manoeuvre] = []
        self._station = 20.0
        self._limit = self.first_limit

    def manoeuvre(self, index: int) -> Manoeuvre:
        """Returns the manoeuvre of an index, 0-based."""
        while index >= len(self._manoeuvres):
            self._manoeuvres.append(self._draw())
        return self._manoeuvres[index]

    def _draw(self) -> Manoeuvre:
        rng = self._rng
        aggressive = bool(rng.random() < _AGGRESSIVE_SHARE)
        kinds = (self._bend, self._junction, self._stop, self._new_limit, self._lane_change)
        manoeuvre = kinds[rng.choice(len(kinds), p=_SHARES)](aggressive)
        self._station = manoeuvre.end
        self._limit = manoeuvre.limit
        return manoeuvre

    def _bend(self, aggressive: bool) -> Manoeuvre:
        speed = self._limit * self._rng.uniform(0.7, 0.97)
        return self._turn(aggressive, speed, math.radians(self._rng.uniform(20.0, 75.0)))

    def _junction(self, aggressive: bool) -> Manoeuvre:
        speed = self._rng.uniform(6.5, 8.0) if aggressive else self._rng.uniform(4.5, 6.5)
        return self._turn(aggressive, speed, math.radians(self._rng.uniform(75.0, 95.0)))

    def _turn(self, aggressive: bool, speed: float, angle: float) -> Manoeuvre:
        rng = self._rng
        approach = self._braking(aggressive and rng.random() < 0.6)
        act = self._style(aggressive, calm=(1.0, 2.7), hard=(3.0, 4.8))
        # Lateral acceleration builds up at the style's jerk.
        easing = speed * act.level / act.jerk
        length = angle * speed * speed / act.level + easing
        length = max(length, 2.2 * easing)
        start = self._start(speed, approach)
        return Manoeuvre(
            kind=Kind.BEND,
            start=start,
            end=start + length,
            speed=speed,
            limit=self._limit,
            approach=approach,
            act=act,
            leave=self._launch(aggressive and rng.random() < 0.4),
            side=int(rng.choice((-1, 1))),
            easing_m=easing,
        )

    def _stop(self, aggressive: bool) -> Manoeuvre:
        rng = self._rng
        # An aggressive stop is hard in braking, in starting, or in both.
        soft = int(rng.integers(3))
        approach = self._braking(aggressive and soft != 0)
        start = self._start(0.0, approach)
        return Manoeuvre(
            kind=Kind.STOP,
            start=start,
            end=start,
            speed=0.0,
            limit=self._limit,
            approach=approach,
            act=CRUISE,
            leave=self._launch(aggressive and soft != 1),
            wait_s=float(rng.uniform(2.0, 12.0)),
        )

    def _new_limit(self, aggressive: bool) -> Manoeuvre:
        others = [limit for limit in _LIMITS if limit != self._limit]
        limit = float(self._rng.choice(others))
        approach = self._braking(aggressive)
        start = self._start(limit, approach)
        return Manoeuvre(
            kind=Kind.LIMIT,
            start=start,
            end=start,
            speed=limit,
            limit=limit,
            approach=approach,
            act=CRUISE,
            leave=self._launch(aggressive) if limit > self._limit else CRUISE,
        )

    def _lane_change(self, aggressive: bool) -> Manoeuvre:
        act = self._style(aggressive, calm=(0.6, 2.0), hard=(2.8, 4.4))
        start = self._start(self._limit, CRUISE)
        duration = math.sqrt(2 * math.pi * LANE_WIDTH_M / act.level)
        return Manoeuvre(
            kind=Kind.LANE,
            start=start,
            end=start + duration * self._limit,
            speed=math.inf,
            limit=self._limit,
            approach=CRUISE,
            act=act,
            leave=CRUISE,
            side=int(self._rng.choice((-1, 1))),
        )

    def _start(self, speed: float, approach: Style) -> float:
        """Returns where the next manoeuvre starts: room to brake for it, and some more."""
        slower_by = max(0.0, self._limit**2 - speed**2)
        room = slower_by / (2 * approach.level) + self._limit * approach.level / (2 * approach.jerk)
        return self._station + room + self._limit * float(self._rng.uniform(2.0, 12.0))

    def _braking(self, aggressive: bool) -> Style:
        return self._style(aggressive, calm=(1.2, 2.6), hard=(3.0, 5.0))

    def _launch(self, aggressive: bool) -> Style:
        return self._style(aggressive, calm=(1.2, 2.6), hard=(3.0, 4.4))

    def _style(self, aggressive: bool, calm: _Range, hard: _Range) -> Style:
        level = float(self._rng.uniform(*(hard if aggressive else calm)))
        jerk = float(self._rng.uniform(*(_HARD_JERK if aggressive else _CALM_JERK)))
        return Style(aggressive, level, jerk)

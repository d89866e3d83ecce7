"""A row of the table: what was measured, what it is to reach, and the times behind it."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Aim(NamedTuple):
    """What a measured value is to reach: at most, or at least, so much."""

    sense: Literal["<=", ">="]
    bound: float

    def is_met(self, value: float) -> bool:
        """Says whether a value reaches it."""
        return value <= self.bound if self.sense == "<=" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.sense} {self.bound:g}"


class Row(NamedTuple):
    """What one measure gave.

    Attributes:
      number: of the row; several measures may share one.
      measure: what was measured: mostly a ratio of two sides that took turns in one run.
      value: what it gave; None where it could not be measured here.
      aim: what it is to reach; None where it is only reported.
      unit: of the value; none of a ratio.
      beside: the times or rates that the value was made of, or why there is none.
    """

    number: int
    measure: str
    value: float | None
    aim: Aim | None = None
    unit: str = ""
    beside: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the aim is reached; None if there is no aim, or no value."""
        if self.aim is None or self.value is None:
            return None
        return self.aim.is_met(self.value)


class Effort(NamedTuple):
    """How much is measured.

    Attributes:
      pairs: steps that are timed one by one, of each side.
      rounds: turns of what is timed as a whole.
      blocks: turns of what is asked over and over for a while.
      block_s: how long, in seconds.
      starts: of a server.
    """

    pairs: int
    rounds: int
    blocks: int
    block_s: float
    starts: int


FULL = Effort(pairs=6000, rounds=15, blocks=30, block_s=0.5, starts=7)
# Says that everything runs, and nothing of how fast.
QUICK = Effort(pairs=20, rounds=1, blocks=2, block_s=0.05, starts=1)


def at_most(bound: float) -> Aim:
    """Returns the aim of a value that is to be small."""
    return Aim("<=", bound)


def at_least(bound: float) -> Aim:
    """Returns the aim of a value that is to be large."""
    return Aim(">=", bound)

"""How long a cell takes on this machine, by which work is cut into slices."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tickcell.model import Cell

# The most that anybody computes in one piece while others wait.
SLICE_S = 0.002

# A call that leaves no room for several of its like in a slice costs more than to have it
# made by a thread, some 0.1 ms.
_LONG_CALL_S = SLICE_S / 4

# A slice ends after the piece in which its time is up.
_PIECES = 4

_MANY_ROWS = 256
_TRIES = 3
# Of a quick cell more, since a model that is loaded while others are served waits for the
# interpreter's lock after some of the calls.
_TRYING_S = 0.005
_MOST_TRIES = 25


class Pace(NamedTuple):
    """What calls of a cell take: so much each, and so much for each row.

    Attributes:
      call_s: seconds for a call with one row.
      row_s: seconds for each further row.
      is_slow: whether even the smallest call is so long that others must not wait for it.
    """

    call_s: float
    row_s: float
    is_slow: bool

    @classmethod
    def of(cls, cell: Cell) -> Pace:
        """Measures a cell: the shortest of a few tries, since others may disturb them."""
        row = bytes(4 * (cell.interface.sensor_count + cell.interface.state_size))
        one, many = _time_s(cell, row), _time_s(cell, _MANY_ROWS * row)
        return cls(one, max(0.0, many - one) / (_MANY_ROWS - 1), one > _LONG_CALL_S)

    @property
    def slice_rows(self) -> int:
        """The most rows of a call that is no longer than a slice; 1 at least.

        Nobody waits for a slow cell, which gains most by many rows.
        """
        if self.row_s == 0.0 or self.is_slow:
            return _MANY_ROWS
        return max(1, int((SLICE_S - self.call_s) / self.row_s))

    @property
    def stretch_steps(self) -> int:
        """The most steps of one series in one piece, so that a slice ends about when it should.

        Nobody waits for a slow cell, and each piece costs it a way to its thread and back.
        """
        if self.call_s == 0.0:
            return _MANY_ROWS
        return max(1, int(self._piece_s / self.call_s))

    def lockstep_piece(self, steps: int, series: int) -> tuple[int, int]:
        """Returns how many steps, of how many series, go in one piece; as `stretch_steps`.

        First steps, since the states of few series stay in the cache.
        """
        step_s = self.call_s + (min(series, _MANY_ROWS) - 1) * self.row_s
        if step_s == 0.0:
            return steps, series
        piece_steps = min(steps, max(1, int(self._piece_s / step_s)))
        return piece_steps, _MANY_ROWS * max(1, int(self._piece_s / (step_s * piece_steps)))

    @property
    def _piece_s(self) -> float:
        return SLICE_S * _PIECES if self.is_slow else SLICE_S / _PIECES


def _time_s(cell: Cell, rows: bytes) -> float:
    times = list[float]()
    while len(times) < _TRIES or (sum(times) < _TRYING_S and len(times) < _MOST_TRIES):
        begin = time.perf_counter()
        cell.step_rows(rows)
        times.append(time.perf_counter() - begin)
    return min(times)

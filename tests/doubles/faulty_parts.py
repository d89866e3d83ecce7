"""Parts that do on purpose what must never happen, to show that the tests would notice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from tickcell.model import Cell, Interface
from tickcell.server.store import Applied, Change, MemoryStore, Verdict

CellFault = Literal["dropped", "doubled", "swapped", "flipped"]
CELL_FAULTS: tuple[CellFault, ...] = get_args(CellFault)

# Now and then, so that every caller sees right answers first.
_PERIOD = 7


class FaultyCell(Cell):
    """Another cell with one fault.

    "dropped": now and then a step is answered and not taken; "doubled": it is taken twice;
    "swapped": of several series in one call the first two get each other's results;
    "flipped": now and then the lowest bit of an output is another.
    """

    def __init__(self, cell: Cell, fault: CellFault) -> None:
        self._cell = cell
        self._fault = fault
        self._call_count = 0

    @property
    def interface(self) -> Interface:
        return self._cell.interface

    @property
    def numerics_digest(self) -> str:
        return self._cell.numerics_digest

    def initial_state(self, series_count: int = 1) -> np.ndarray:
        return self._cell.initial_state(series_count)

    def step_rows(self, rows: bytes | memoryview) -> bytes:
        sensors, outputs = self.interface.sensor_count, self.interface.output_count
        before = np.frombuffer(rows, "<f4").reshape(-1, sensors + self.interface.state_size)
        after = np.frombuffer(self._cell.step_rows(rows), "<f4").reshape(len(before), -1).copy()
        self._call_count += 1
        if self._fault == "swapped" and len(after) > 1:
            after[[0, 1]] = after[[1, 0]]
        if self._call_count % _PERIOD == 0:
            if self._fault == "dropped":
                after[:, outputs:] = before[:, sensors:]
            elif self._fault == "doubled":
                again = np.concatenate((before[:, :sensors], after[:, outputs:]), axis=1)
                twice = np.frombuffer(self._cell.step_rows(again.tobytes()), "<f4")
                after[:, outputs:] = twice.reshape(after.shape)[:, outputs:]
            elif self._fault == "flipped":
                after.view(np.uint32)[0, 0] ^= 1
        return after.tobytes()


class ForgetfulStore(MemoryStore):
    """A store that now and then says that a change is stored, and it is not."""

    def __init__(self) -> None:
        super().__init__()
        self._commit_count = 0

    def commit(self, changes: Sequence[Change]) -> list[Verdict]:
        self._commit_count += 1
        if self._commit_count % _PERIOD == 0:
            return [Applied() for _ in changes]
        return super().commit(changes)

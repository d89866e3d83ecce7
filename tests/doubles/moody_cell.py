"""A counting cell that some readings upset."""

from __future__ import annotations

import numpy as np

from doubles.counting_cell import CountingCell

RAISES = 400.0
GIVES_NAN = 401.0
LEAVES_NAN = 402.0


class MoodyCell(CountingCell):
    """Counts, and notes how it is called.

    The reading RAISES makes it raise, GIVES_NAN makes the output NaN, and LEAVES_NAN
    the next state.

    Attributes:
      row_counts: of each call so far.
    """

    def __init__(self, sensor_count: int = 1) -> None:
        super().__init__(sensor_count)
        self.row_counts: list[int] = []

    def step_rows(self, rows: bytes | memoryview) -> bytes:
        width = self.interface.sensor_count + 1
        readings = np.frombuffer(rows, "<f4").reshape(-1, width)[:, 0]
        self.row_counts.append(len(readings))
        if (readings == RAISES).any():
            raise ArithmeticError("upset by a reading")
        stepped = np.frombuffer(super().step_rows(rows), "<f4").reshape(-1, width).copy()
        stepped[readings == GIVES_NAN, 0] = np.nan
        stepped[readings == LEAVES_NAN, -1] = np.nan
        return stepped.tobytes()

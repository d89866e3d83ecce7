"""A cell in whose outputs a lost, doubled or mixed-up step shows as a number."""

from __future__ import annotations

import numpy as np

from tickcell.model import Cell, Head, Interface, Sensor, TensorSpec


class CountingCell(Cell):
    """Returns `frame + 1000 * (step % 8192)`, exact in float32 for small readings.

    The state is the number of steps taken. The output is as wide as the frame.
    """

    def __init__(self, sensor_count: int = 1) -> None:
        self._interface = Interface(
            sensors=tuple(Sensor(f"sensor_{i}", "1", -500.0, 500.0) for i in range(sensor_count)),
            state_tensors=(TensorSpec("step", (1,)),),
            heads=(Head("output", sensor_count),),
        )

    @property
    def interface(self) -> Interface:
        return self._interface

    @property
    def numerics_digest(self) -> str:
        return "00000000c0117e57"

    def initial_state(self, series_count: int = 1) -> np.ndarray:
        return np.zeros((series_count, 1), np.float32)

    def step_rows(self, rows: bytes | memoryview) -> bytes:
        width = self._interface.sensor_count + 1
        table = np.frombuffer(rows, "<f4").reshape(-1, width)
        frames, steps = table[:, :-1], table[:, -1:]
        return np.concatenate((frames + 1000 * (steps % 8192), steps + 1), axis=1).tobytes()


def counting_outputs(frames: np.ndarray, first_step: int = 0) -> np.ndarray:
    """Returns what a `CountingCell` gives for `[T, ...]` frames that begin at a step."""
    steps = np.arange(first_step, first_step + len(frames)) % 8192
    return (frames + 1000 * steps.reshape(-1, *[1] * (frames.ndim - 1))).astype(np.float32)

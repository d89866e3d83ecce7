"""A cell in whose outputs a lost, doubled or mixed-up step shows as a number."""

from __future__ import annotations

import numpy as np

from tickcell.model import Interface, Sensor, TensorSpec


class CountingCell:
    """Returns `frame + 1000 * (step % 8192)`, exact in float32 for small readings.

    The state is the number of steps taken. The output is as wide as the frame.
    """

    numerics_digest = "00000000c0117e57"

    def __init__(self, sensor_count: int = 1) -> None:
        self.interface = Interface(
            sensors=tuple(Sensor(f"sensor_{i}", "1", -500.0, 500.0) for i in range(sensor_count)),
            state_tensors=(TensorSpec("step", (1,)),),
            output_names=tuple(f"output_{i}" for i in range(sensor_count)),
        )
        self.calls = 0

    def initial_state(self, series_count: int = 1) -> np.ndarray:
        return np.zeros((series_count, 1), np.float32)

    def step(self, frame: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls += 1
        output = frame + 1000 * (state % 8192).reshape(state.shape[0], 1)
        return output.reshape(frame.shape).astype(np.float32), state + 1


def counting_outputs(frames: np.ndarray, first_step: int = 0) -> np.ndarray:
    """Returns what a `CountingCell` gives for `[T, ...]` frames that begin at a step."""
    steps = np.arange(first_step, first_step + len(frames)) % 8192
    return (frames + 1000 * steps.reshape(-1, *[1] * (frames.ndim - 1))).astype(np.float32)

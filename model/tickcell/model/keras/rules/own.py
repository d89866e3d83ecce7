"""Layers that are not Keras's: taken to treat each frame on its own, once they show it."""

from __future__ import annotations

import keras
import numpy as np

from tickcell.model.keras.rules.per_frame import PerFrame
from tickcell.model.keras.rules.rule import as_list, refusal

_STEPS = 5


class Own(PerFrame):
    """A registered layer of somebody's own."""

    def check(self) -> None:
        if not self.is_timed:
            return
        generator = np.random.default_rng(0)
        sequences = {
            value.index: generator.standard_normal(
                (2, _STEPS, *(size or 1 for size in value.shape[2:])), np.float32
            ).astype(value.dtype)
            for value in self.call.inputs
        }
        whole = self._run(sequences)
        alone = [
            self._run({index: each[:, step : step + 1] for index, each in sequences.items()})
            for step in range(_STEPS)
        ]
        for number, output in enumerate(whole):
            frames = np.concatenate([each[number] for each in alone], axis=1)
            if frames.shape != output.shape or np.abs(frames - output).max() > 1e-5:
                raise refusal(
                    self.call,
                    "it makes a frame's result of other frames too",
                    "write it as a cell for keras.layers.RNN",
                )

    def _run(self, inputs: dict[int, np.ndarray]) -> list[np.ndarray]:
        tensors = {index: keras.ops.convert_to_tensor(each) for index, each in inputs.items()}
        return [keras.ops.convert_to_numpy(each) for each in as_list(self.call.run(tensors))]

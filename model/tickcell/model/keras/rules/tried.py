"""Layers and operations that no table knows, which must show what they do with a frame."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from numpy.typing import NDArray

from tickcell.model.keras.rules.per_frame import PerFrame
from tickcell.model.keras.rules.rule import as_list, refusal

_SERIES, _STEPS = 3, 5
_TOLERANCE = 1e-5

Arrays = dict[int, NDArray[np.generic]]


class Tried(PerFrame):
    """One that gives of a frame alone what it gives of it among others, and of a series likewise.

    It is tried on random readings. What they do not bring to light, the gates of an export
    find, where the whole model is compared on many more frames.
    """

    def check(self) -> None:
        generator = np.random.default_rng(0)
        lead = (_SERIES, _STEPS) if self.is_timed else (_SERIES,)
        inputs: Arrays = {
            value.index: generator.standard_normal(
                (*lead, *(size or 1 for size in value.frame_shape)), np.float32
            ).astype(value.dtype)
            for value in self.call.inputs
        }
        if not self._is_same_alone(inputs, 0):
            raise refusal(
                self.call,
                "its result for a series depends on the others",
                "let it compute each series on its own, and nothing at random",
            )
        if self.is_timed and not self._is_same_alone(inputs, 1):
            own = not type(self.call.operation).__module__.startswith("keras.")
            raise refusal(
                self.call,
                "its result for a frame depends on other frames",
                "write it as a cell for keras.layers.RNN"
                if own
                else "use a recurrent layer or causal convolutions",
            )

    def _is_same_alone(self, inputs: Arrays, axis: int) -> bool:
        """Says whether slices along an axis give, one by one, what all of them give."""
        count = _STEPS if axis else _SERIES
        together = self._run(inputs, lambda each: each)
        alone = [
            self._run(inputs, lambda each, at=at: each.take([at], axis))  # type: ignore[misc]
            for at in range(count)
        ]
        return all(
            all(parts[number].shape == _with_one(output.shape, axis) for parts in alone)
            and np.allclose(
                np.concatenate([parts[number] for parts in alone], axis),
                output,
                rtol=_TOLERANCE,
                atol=_TOLERANCE,
            )
            for number, output in enumerate(together)
        )

    def _run(
        self,
        inputs: Arrays,
        part: Callable[[NDArray[np.generic]], NDArray[np.generic]],
    ) -> list[NDArray[np.generic]]:
        tensors = {index: keras.ops.convert_to_tensor(part(each)) for index, each in inputs.items()}
        return [keras.ops.convert_to_numpy(each) for each in as_list(self.call.run(tensors))]


def _with_one(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 1, *shape[axis + 1 :])

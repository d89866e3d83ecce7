"""Frames such as sensors give, for a model of which nobody gave a recording.

On frames of another scale a network may be saturated: its outputs then say little of how it
forgets, or of how far two ways of computing them are apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from tickcell.model import walks
from tickcell.model.interface import Sensor

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Typical(NamedTuple):
    """Frames, and what they were drawn from, for a sentence.

    Attributes:
      frames: `[T, F]` float32, within the sensors' ranges.
      origin: what gives their means and deviations.
    """

    frames: NDArray[np.float32]
    origin: str


def draw(
    model: Any, sensors: Sequence[Sensor], generator: np.random.Generator, step_count: int
) -> Typical | None:
    """Draws frames as a model's normalisation or its sensors' ranges have them.

    Returns:
      None where the model has no normalisation and its sensors no ranges.
    """
    normalisation = _normalisation(model, len(sensors))
    scale = normalisation or walks.scale_of(sensors)
    if scale is None:
        return None
    origin = "the model's normalisation" if normalisation else "the sensors' ranges"
    return Typical(walks.draw(sensors, *scale, generator, step_count), origin)


def _normalisation(
    model: Any, sensor_count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Returns mean and deviation `[F]` of the first layer that normalises frames, if any."""
    for layer in model._flatten_layers(include_self=False):
        if not isinstance(layer, keras.layers.Normalization) or layer.invert:
            continue
        if getattr(layer, "mean", None) is None:
            continue
        mean, variance = (
            np.asarray(value, np.float64).reshape(-1) for value in (layer.mean, layer.variance)
        )
        if len(mean) == sensor_count:
            return mean, np.sqrt(variance)
    return None

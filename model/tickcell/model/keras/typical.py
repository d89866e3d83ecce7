"""Frames such as sensors give, for a model of which nobody gave a recording.

On frames of another scale a network may be saturated: its outputs then say little of how it
forgets, or of how far two ways of computing them are apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from tickcell.model.interface import Sensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Readings of sensors follow each other: so much of one is left in the next.
_KEPT = 0.9
# A range is so many deviations to either side of its middle.
_DEVIATIONS = 4.0
# Limits so wide are not known.
_WIDEST = 1e30


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
    lowest, highest = (
        np.array([getattr(sensor, limit) for sensor in sensors], np.float64)
        for limit in ("min_reading", "max_reading")
    )
    normalisation = _normalisation(model, len(sensors))
    if normalisation is not None:
        (mean, deviation), origin = normalisation, "the model's normalisation"
    elif (highest - lowest < _WIDEST).all():
        mean, deviation = (lowest + highest) / 2, (highest - lowest) / (2 * _DEVIATIONS)
        origin = "the sensors' ranges"
    else:
        return None
    noise = generator.standard_normal((step_count, len(sensors)))
    walk = np.empty_like(noise)
    walk[0] = noise[0]
    for step in range(1, step_count):
        walk[step] = _KEPT * walk[step - 1] + np.sqrt(1 - _KEPT**2) * noise[step]
    frames = np.clip(mean + deviation * walk, lowest, highest)
    return Typical(np.asarray(frames, np.float32), origin)


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

"""Frames on which a cell's batch shapes are compared and its numerics digest is computed.

They follow from the bundle's fingerprint and the sensors' ranges, which it covers,
and from nothing else: the same model has the same digest wherever it computes the
same bits. Each is made by operations that IEEE 754 defines to the bit.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.model.interface import Interface

# As many as the largest batch shape has rows.
_COUNT = 256

# Readings are scaled by 1, 1/2 … 1/1024 of their range: within the whole range most
# activations are saturated, and differences in the last bit do not come through.
_SCALES = 11


def frames(fingerprint: str, interface: Interface) -> NDArray[np.float32]:
    """Returns `[256, F]` float32 frames, within the sensors' ranges.

    Args:
      fingerprint: of the bundle, in hexadecimal.
      interface: of the bundle.
    """
    size = 4 * _COUNT * (interface.sensor_count + 1)
    drawn = np.frombuffer(hashlib.shake_256(bytes.fromhex(fingerprint)).digest(size), "<u4")
    drawn = drawn.reshape(_COUNT, -1)
    scales = np.ldexp(1.0, -(drawn[:, :1] % _SCALES).astype(np.int32))
    # In [-1, 1), of which each half is a side of the range's anchor.
    shares = scales * np.ldexp(drawn[:, 1:].astype(np.float64) - 2.0**31, -31)
    lowest = np.array([sensor.min_reading for sensor in interface.sensors])
    highest = np.array([sensor.max_reading for sensor in interface.sensors])
    spans_zero = (lowest <= 0) & (highest >= 0)
    anchors = np.where(spans_zero, 0.0, lowest / 2 + highest / 2)
    readings = anchors + shares * np.where(shares < 0, anchors - lowest, highest - anchors)
    whole = [sensor.whole for sensor in interface.sensors]
    readings = np.where(whole, np.rint(readings), readings)
    probe: NDArray[np.float32] = np.clip(readings, lowest, highest).astype(np.float32)
    return probe

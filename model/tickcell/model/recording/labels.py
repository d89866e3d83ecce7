"""Labels as a file has them, and as they are learnt and scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def binary(labels: Sequence[Any] | NDArray[Any]) -> NDArray[np.float32]:
    """Returns labels of 0 and 1; NaN for what is neither."""
    found = np.array([_number(label) for label in labels], np.float32)
    found[(found != 0) & (found != 1)] = np.nan
    return found


def _number(label: Any) -> float:
    try:
        return float(label)
    except (TypeError, ValueError):
        return float("nan")

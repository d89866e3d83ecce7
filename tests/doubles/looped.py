"""A course for sessions of a bundle, held to the plain loop over the bundle's cell."""

from __future__ import annotations

import numpy as np

from tickcell.cli import comparison
from tickcell.conformance.caller import Caller
from tickcell.conformance.course import Course
from tickcell.model import Bundle


def looped(bundle: Bundle, caller: Caller) -> Course:
    """Returns a course for sessions of a bundle that a server serves."""
    cell = bundle.cell()

    def loop(frames: np.ndarray) -> np.ndarray:
        return np.stack([comparison.loop(cell, each) for each in frames.swapaxes(0, 1)], axis=1)

    return Course.at(caller, bundle.card.name, bundle.card.version, loop)

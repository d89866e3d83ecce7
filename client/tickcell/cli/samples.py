"""The sample recording that ships with tickcell: the golden frames of the shipped bundle."""

from __future__ import annotations

import numpy as np

from tickcell.model import Bundle
from tickcell.model.recording import Recording


def golden(bundle: Bundle) -> Recording:
    """Returns a bundle's golden frames as a recording."""
    frames = bundle.golden.frames
    return Recording(
        frames=frames,
        times=np.arange(len(frames)) / bundle.card.rate_hz,
        labels=bundle.golden.labels,
        sensor_names=tuple(sensor.name for sensor in bundle.interface.sensors),
        label_name=bundle.interface.output_names[0],
        name=f"the golden frames of {bundle.card.name} {bundle.card.version}",
    )


def shipped() -> Recording:
    """Returns the sample recording."""
    return golden(Bundle.load())

"""What a model is, and how to run it in process.

The loop that every other way of running a model must equal:

    from tickcell.model import Bundle

    cell = Bundle.load().cell()
    state = cell.initial_state()
    for frame in recording:
        output, state = cell.step(frame, state)
"""

from tickcell.model.bundle import Bundle as Bundle
from tickcell.model.bundle import BundleError as BundleError
from tickcell.model.bundle import Card as Card
from tickcell.model.bundle import Golden as Golden
from tickcell.model.cell import Cell as Cell
from tickcell.model.cell import FrameShapeError as FrameShapeError
from tickcell.model.cell import LiteRTCell as LiteRTCell
from tickcell.model.extras import MissingExtraError as MissingExtraError
from tickcell.model.interface import Head as Head
from tickcell.model.interface import Interface as Interface
from tickcell.model.interface import Sensor as Sensor
from tickcell.model.interface import TensorSpec as TensorSpec

__all__ = [
    "Bundle",
    "BundleError",
    "Card",
    "Cell",
    "FrameShapeError",
    "Golden",
    "Head",
    "Interface",
    "LiteRTCell",
    "MissingExtraError",
    "Sensor",
    "TensorSpec",
]

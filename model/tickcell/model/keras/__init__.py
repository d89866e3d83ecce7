"""Keras: cells, models, training, export and evaluation of recurrent networks.

The only folder that imports TensorFlow, which comes with the extra `train`. Importing
the package itself does not: each module below imports what it needs.

    cells         what a network computes in one step
    models        networks over whole sequences, made of these cells
    windows       recordings cut into batches; augmentation changes them
    training      fits a network by a recipe, and goes on with a run that was stopped
    plan          the calls that any model makes of its layers, or why it cannot be streamed
    step          one step of any recurrent model; sequence: all its steps at once
    conversion    a step as a LiteRT graph
    export        a trained model as a bundle, behind gates
    evaluation    a bundle streamed over labelled recordings, and scored
    provenance    what a run says of the network it trained
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tickcell.model import extras

# Read when TensorFlow is first imported. Its notes on the CPU's instructions and on
# absent GPUs are not for the person who trains or exports; warnings still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def full_sequence(path: str | os.PathLike[str], frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """See `tickcell.model.keras.sequence.full_sequence`; imports TensorFlow when called.

    Raises:
      MissingExtraError: TensorFlow is not installed.
    """
    extras.load("tensorflow", extra="train")
    from tickcell.model.keras import sequence

    return sequence.full_sequence(path, frames)

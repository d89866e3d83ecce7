"""Keras: cells, models, training, export and evaluation of recurrent networks.

The only folder that imports TensorFlow, which comes with the extra `train`. Importing
the package itself does not: each module below imports what it needs.

    cells       what a network computes in one step
    models      networks over whole sequences, made of these cells
    step        one step of any recurrent Keras model
    conversion  a step as a LiteRT graph
    export      a trained model as a bundle, behind gates
"""

from __future__ import annotations

import os

# Read when TensorFlow is first imported. Its notes on the CPU's instructions and on
# absent GPUs are not for the person who trains or exports; warnings still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

"""Layers that no rule can stream: why, and the way out."""

from __future__ import annotations

from typing import Any

import keras

_ALL_FRAMES = "it looks at all frames at once"
_RECURRENT = "use a recurrent layer or causal convolutions"

REASONS: dict[type[Any], tuple[str, str]] = {
    keras.layers.Bidirectional: (
        "it reads the sequence from its end as well",
        "train the forward layer alone",
    ),
    keras.layers.Lambda: ("it is code", "use operations of keras.ops or a layer of your own"),
    keras.layers.Attention: (_ALL_FRAMES, _RECURRENT),
    keras.layers.AdditiveAttention: (_ALL_FRAMES, _RECURRENT),
    keras.layers.MultiHeadAttention: (_ALL_FRAMES, _RECURRENT),
    keras.layers.GroupQueryAttention: (_ALL_FRAMES, _RECURRENT),
    keras.layers.Discretization: (
        "it gives whole numbers of a vocabulary, and a step computes with readings",
        "train on the readings themselves",
    ),
    keras.layers.Permute: ("it moves the axis of time", "keep the axis of time as it is"),
    keras.layers.ConvLSTM1D: ("its state is an image", "use TimeDistributed(Conv1D) and an LSTM"),
    keras.layers.ConvLSTM2D: ("its state is an image", "use TimeDistributed(Conv2D) and an LSTM"),
    keras.layers.ConvLSTM3D: ("its state is an image", "use TimeDistributed(Conv3D) and an LSTM"),
    keras.layers.Conv1DTranspose: (
        "it makes several frames of one",
        "use Conv1D with padding='causal'",
    ),
    keras.layers.UpSampling1D: ("it makes several frames of one", "resample the recording"),
}

"""Which rule streams which kind of Keras layer and operation: the one place that says so."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from tickcell.model.keras.rules import (
    lookup,
    per_frame,
    recurrent,
    refused,
    slices,
    so_far,
    windowed,
)
from tickcell.model.keras.rules.rule import Call, Rule, refusal
from tickcell.model.keras.rules.tried import Tried

_LAYERS: dict[type[Any], Any] = {
    **dict.fromkeys(
        (
            keras.layers.Activation,
            keras.layers.ActivityRegularization,
            keras.layers.Add,
            keras.layers.AlphaDropout,
            keras.layers.Average,
            keras.layers.Dense,
            keras.layers.Dropout,
            keras.layers.ELU,
            keras.layers.GaussianDropout,
            keras.layers.GaussianNoise,
            keras.layers.Identity,
            keras.layers.LeakyReLU,
            keras.layers.Masking,
            keras.layers.Maximum,
            keras.layers.Minimum,
            keras.layers.Multiply,
            keras.layers.ReLU,
            keras.layers.Rescaling,
            keras.layers.SpatialDropout1D,
            keras.layers.Subtract,
        ),
        per_frame.PerFrame,
    ),
    **dict.fromkeys(
        (
            keras.layers.BatchNormalization,
            keras.layers.Concatenate,
            keras.layers.LayerNormalization,
            keras.layers.Normalization,
            keras.layers.RMSNormalization,
            keras.layers.Softmax,
            keras.layers.UnitNormalization,
        ),
        per_frame.AlongAxis,
    ),
    keras.layers.AveragePooling1D: windowed.Pooling,
    keras.layers.Conv1D: windowed.Convolution,
    keras.layers.Cropping1D: windowed.Shifted,
    keras.layers.DepthwiseConv1D: windowed.DepthwiseConvolution,
    keras.layers.Embedding: lookup.Lookup,
    keras.layers.EinsumDense: per_frame.Einsum,
    keras.layers.Flatten: per_frame.Reshaped,
    keras.layers.GlobalAveragePooling1D: so_far.MeanSoFar,
    keras.layers.GlobalMaxPooling1D: so_far.MaxSoFar,
    keras.layers.GroupNormalization: per_frame.Grouped,
    keras.layers.MaxPooling1D: windowed.Pooling,
    keras.layers.PReLU: per_frame.Prelu,
    keras.layers.RNN: recurrent.Recurrent,
    keras.layers.RepeatVector: so_far.Repeated,
    keras.layers.Reshape: per_frame.Reshaped,
    keras.layers.SeparableConv1D: windowed.SeparableConvolution,
    keras.layers.TimeDistributed: per_frame.Distributed,
    keras.layers.ZeroPadding1D: windowed.Shifted,
}

# Operations of keras.ops have no public classes, so they are known by name.
# fmt: off
_OPERATIONS: dict[str, Any] = {
    **dict.fromkeys(
        (
            "Absolute", "Add", "Arctan", "Arctan2", "BitwiseAnd", "BitwiseOr", "Cast", "Ceil",
            "Celu", "Clip", "ConvertToTensor", "Cos", "Cosh", "Divide", "DivideNoNan", "Elu",
            "Equal", "Erf", "Exp", "Expm1", "Floor", "FloorDivide", "FullLike", "Gelu", "Greater",
            "GreaterEqual", "HardSigmoid", "HardSilu", "HardTanh", "Hypot", "Isfinite", "Isnan",
            "LeakyRelu", "Less", "LessEqual", "Log", "Log10", "Log1p", "Log2", "LogSigmoid",
            "LogicalAnd", "LogicalNot", "LogicalOr", "LogicalXor", "Maximum", "Minimum", "Mod",
            "Multiply", "NanToNum", "Negative", "NotEqual", "OnesLike", "Power", "Reciprocal",
            "Relu", "Relu6", "Round", "Rsqrt", "Selu", "Sigmoid", "Sign", "Silu", "Sin", "Sinh",
            "Softplus", "Softsign", "Sqrt", "Square", "StopGradient", "Subtract", "Tan", "Tanh",
            "TrueDivide", "Where", "ZerosLike",
        ),
        per_frame.Broadcast,
    ),
    **dict.fromkeys(
        (
            "All", "Any", "Argmax", "Argmin", "Concatenate", "Cumsum", "ExpandDims", "Glu",
            "Logsumexp", "LogSoftmax", "Norm", "Prod", "Softmax", "Split", "Squeeze", "Stack",
            "Std", "Sum", "Take", "Var",
        ),
        per_frame.AlongAxis,
    ),
    "Amax": so_far.reduction(so_far.MaxSoFar),
    "Amin": so_far.reduction(so_far.MinSoFar),
    "Max": so_far.reduction(so_far.MaxSoFar),
    "Mean": so_far.reduction(so_far.MeanSoFar),
    "Min": so_far.reduction(so_far.MinSoFar),
    "Dot": per_frame.Product,
    "GetItem": slices.item,
    "Matmul": per_frame.Product,
    "Reshape": per_frame.Reshaped,
}


# fmt: on


def rule(call: Call) -> Rule:
    """Returns the rule that streams a call.

    Raises:
      UnstreamableError: there is none; the message names the layer, the reason and the
        way out.
    """
    operation = call.operation
    for kind, (reason, way_out) in refused.REASONS.items():
        if isinstance(operation, kind):
            raise refusal(call, reason, way_out)
    if getattr(operation, "quantization_mode", None):
        raise refusal(call, "it is quantised", "export the model that it was quantised from")
    if isinstance(operation, keras.layers.SpectralNormalization):
        # It changes the weights while it trains; then the layer inside is all there is.
        return rule(dataclasses.replace(call, operation=operation.layer))
    made: Rule = _kind(call)(call)
    return made


def _kind(call: Call) -> Any:
    operation = call.operation
    if not isinstance(operation, keras.layers.Layer):
        if type(operation).__name__ in _OPERATIONS:
            return _OPERATIONS[type(operation).__name__]
    elif type(operation) in _LAYERS:
        return _LAYERS[type(operation)]
    elif isinstance(operation, keras.layers.RNN):
        return recurrent.Recurrent
    return Tried

"""What a Keras model's outputs are, as its layers show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from tickcell.model.interface import Head

if TYPE_CHECKING:
    from tickcell.model.keras.plan import Plan


def of(plan: Plan) -> tuple[Head, ...]:
    """Returns the heads of a model in the order of an output row.

    Several are named as in the model, a single one "output"; what each is shows in its
    last activation.
    """
    names = [head.name for head in plan.heads] if len(plan.heads) > 1 else ["output"]
    return tuple(
        Head(name, head.size, _kind(plan, number))
        for number, (name, head) in enumerate(zip(names, plan.heads, strict=True))
    )


def _kind(plan: Plan, number: int) -> str:
    """Returns the kind that a head's last activation makes of it."""
    head = plan.heads[number]
    activation = None
    for bound in plan.bound:
        if head.value in bound.outputs:
            activation = _activation(bound.rule.call.operation)
    if activation == "softmax" and len(head.value.frame_shape) == 1 and head.size > 1:
        return "classes"
    return "probability" if activation == "sigmoid" else "number"


def _activation(operation: Any) -> str | None:
    if isinstance(operation, keras.layers.TimeDistributed):
        return _activation(operation.layer)
    if isinstance(operation, keras.layers.Softmax):
        return "softmax"
    if isinstance(operation, keras.layers.Layer):
        return getattr(getattr(operation, "activation", None), "__name__", None)
    return type(operation).__name__.lower()

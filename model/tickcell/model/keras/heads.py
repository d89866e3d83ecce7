"""What a model's outputs are, from its layers and from what a person says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from tickcell.model.interface import Head

if TYPE_CHECKING:
    from tickcell.model.keras.description import Description
    from tickcell.model.keras.plan import Plan


def of(plan: Plan, description: Description) -> tuple[Head, ...]:
    """Returns the heads of a model in the order of an output row.

    One head is as the description says; several are named as in the model, and what each
    is shows in its last activation.
    """
    if len(plan.heads) > 1:
        return tuple(
            Head(head.name, head.size, kind(plan, number)) for number, head in enumerate(plan.heads)
        )
    size = plan.output_count
    if len(description.classes) == size > 1:
        return (Head(description.output_name, size, "classes", tuple(description.classes)),)
    return (Head(description.output_name, size, kind(plan, 0)),)


def kind(plan: Plan, number: int) -> str:
    """Returns the kind that a head's last activation makes of it."""
    head = plan.heads[number]
    activation = None
    for bound in plan.bound:
        if head.value in bound.outputs:
            activation = _activation(bound.rule.call.operation)
    if activation in ("softmax", "log_softmax") and head.size > 1:
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

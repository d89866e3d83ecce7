"""The calls that a Keras model makes, in order, each with the rule that streams it.

A model is read once into a `Plan`; `step` and `sequence` then go through the plan in
their own way: one frame at a time, and the whole sequence at once. Reading it is also
where a model that cannot be streamed is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras

from tickcell.model.keras import graph, whole
from tickcell.model.keras.binding import FRAME_COUNT, Binder, Bound, Head
from tickcell.model.keras.rules.rule import Rule, Timing, UnstreamableError, Value

__all__ = ["FRAME_COUNT", "Bound", "Head", "Plan", "UnstreamableError", "read"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a model computes.

    Attributes:
      bound: in an order in which each call's inputs are there.
      arguments: what the model is called with, in the structure in which it takes it.
      inputs: in the order in which a frame has their readings; a static input is there
        with each frame.
      input_names: of those.
      carried: the inputs by which the model is given its states, which a stream keeps.
      heads: in the order of an output row.
      gives_heads: which of the model's own outputs are heads, and not states.
      step_count: T where the model takes sequences of one length only, or else None.
      series_count: B where the model takes batches of one size only, or else None.
      lag: of how many of the first frames some output is not of the model's.
      mask_value: a frame of which all readings are this is masked; None without masks.
    """

    bound: tuple[Bound, ...]
    arguments: Any
    inputs: tuple[Value, ...]
    input_names: tuple[str, ...]
    carried: tuple[Value, ...]
    heads: tuple[Head, ...]
    gives_heads: tuple[bool, ...]
    step_count: int | None
    series_count: int | None
    lag: int
    mask_value: float | None

    @property
    def sensor_count(self) -> int:
        """F, the readings of a frame: those of all inputs side by side."""
        return sum(value.size for value in self.inputs)

    @property
    def output_count(self) -> int:
        """O, the numbers of all heads."""
        return sum(head.size for head in self.heads)

    @property
    def rules(self) -> Iterator[Rule]:
        """The rules in order."""
        return (bound.rule for bound in self.bound)

    @property
    def largest_hold(self) -> int:
        """For how many of the first frames some state is held."""
        lags = [
            value.lag for rule in self.rules if rule.initial_states for value in rule.call.inputs
        ]
        return max([0, *lags])

    def columns(self) -> list[tuple[Value, slice]]:
        """Returns the inputs, each with the columns that it has of a frame."""
        columns, start = [], 0
        for value in self.inputs:
            columns.append((value, slice(start, start + value.size)))
            start += value.size
        return columns


def read(model: Any) -> Plan:
    """Reads a model.

    Raises:
      UnstreamableError: the model cannot be streamed; the message names the layer, the
        reason and the way out.
    """
    flat = graph.flatten(model)
    binder = Binder(model, flat)
    heads, gives_heads = binder.heads()
    inputs = tuple(value for value in binder.inputs if value.index not in binder.carried)
    timed = [value for value in inputs if value.timing is Timing.EACH]
    lengths = {value.shape[1] for value in timed}
    if not timed:
        raise UnstreamableError(
            f"{model.name}: got inputs of the shapes {[list(each.shape) for each in inputs]}, "
            "expected [B, T, F]; give it the frames of a sequence."
        )
    if len(lengths) > 1:
        raise UnstreamableError(
            f"{model.name}: takes sequences of different lengths {sorted(lengths, key=str)}; give "
            "all sensors one rate."
        )
    if not any(rule.initial_states for rule in (bound.rule for bound in binder.bound)):
        raise UnstreamableError(
            f"{model.name}: keeps no state, because it has no recurrent layer and no convolution "
            "over time; it needs no stream: call it on each frame."
        )
    read = Plan(
        bound=tuple(binder.bound),
        arguments=keras.tree.pack_sequence_as(flat.input, binder.inputs),
        inputs=inputs,
        input_names=tuple(binder.input_names[value.index] for value in inputs),
        carried=tuple(value for value in binder.inputs if value.index in binder.carried),
        heads=tuple(heads),
        gives_heads=tuple(gives_heads),
        step_count=lengths.pop(),
        series_count=timed[0].shape[0],
        lag=max(head.value.lag for head in heads),
        mask_value=binder.mask_value(),
    )
    whole.limits(read)  # Raises where a layer looks up what is no reading.
    return read

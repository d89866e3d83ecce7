"""Binds a rule to each call of a flat model, in order."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import keras

from tickcell.model.keras.rules import registry
from tickcell.model.keras.rules.rule import (
    Call,
    Rule,
    Timing,
    UnstreamableError,
    Value,
    naming,
    refusal,
    refused,
    takes,
)

# The state that says how many frames there were, as long as another is held until there are more.
FRAME_COUNT = "frame_count"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """A rule, and the values that its call gives."""

    rule: Rule
    outputs: tuple[Value, ...]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Head:
    """One output of a model: its name, its value, and how many numbers it has."""

    name: str
    value: Value
    size: int


class Binder:
    """Binds a rule to each call of a flat model, in order."""

    def __init__(self, model: Any, flat: Any) -> None:
        self.bound: list[Bound] = []
        self.inputs: list[Value] = []
        self.input_names: dict[int, str] = {}
        self.carried: dict[int, str] = {}
        self._model = model
        self._flat = flat
        self._returned: dict[int, str] = {}
        self._count = 0
        self._names: set[str] = set()
        self._states = {FRAME_COUNT}
        self._values: dict[int, Value] = {}
        self._kept: list[Any] = []  # A tensor's id is only its own while the tensor lives.
        # First of all, since what computes a start may be refused itself, and is not the reason.
        _refuse_computed_starts(flat)
        self._outputs = self._follow(flat)

    def heads(self) -> tuple[list[Head], list[bool]]:
        """Returns the outputs of the model, but for states that are carried by hand."""
        given_back = {name for value in self._outputs if (name := self._returned.get(value.index))}
        if missing := sorted(set(self.carried.values()) - given_back):
            raise UnstreamableError(
                f"layer {missing[0]!r}: starts from an input that the model does not give back as "
                "an output; give its state back (return_state=True), or start from zeros."
            )
        hand_made = set(self.carried.values())
        is_head = [
            self._returned.get(value.index) not in hand_made or value.index not in self._returned
            for value in self._outputs
        ]
        shown = [value for value, shown in zip(self._outputs, is_head, strict=True) if shown]
        names = [
            name for name, shown in zip(_head_names(self._flat), is_head, strict=True) if shown
        ]
        heads = []
        for name, value in zip(names, shown, strict=True):
            if None in value.frame_shape or value.lag < 0:
                raise UnstreamableError(
                    f"{self._model.name}: got the output {list(value.shape)}, expected "
                    "[B, T, ...] or [B, ...]; give each frame an output of one size."
                )
            heads.append(Head(name, value, value.size))
        return heads, is_head

    def mask_value(self) -> float | None:
        """Returns what masks a frame.

        Raises:
          UnstreamableError: it is not told by the frame's own readings.
        """
        masks = [
            bound.rule.call
            for bound in self.bound
            if isinstance(bound.rule.call.operation, keras.layers.Masking)
        ]
        for call in masks:
            if call.inputs[0] not in self.inputs:
                raise refusal(
                    call,
                    "what it masks was computed before, and could round",
                    "put it right behind the input",
                )
        values = {float(call.operation.mask_value) for call in masks}
        if len(values) > 1:
            raise refusal(masks[0], f"frames are masked by {sorted(values)}", "use one mask_value")
        return values.pop() if values else None

    def _follow(self, flat: Any) -> list[Value]:
        tensors = keras.tree.map_structure(
            lambda tensor: keras.Input(
                batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name
            ),
            flat.input,
        )
        for tensor, of_model in zip(keras.tree.flatten(tensors), flat.inputs, strict=True):
            value = self._input(tensor, of_model.name, _timing(flat, of_model))
            self.inputs.append(value)
            self.input_names[value.index] = of_model.name
        clone = keras.models.clone_model(
            flat,
            input_tensors=tensors,
            clone_function=lambda layer: layer,
            call_function=self._call,
        )
        return [self._values[id(tensor)] for tensor in clone.outputs]

    def _input(self, tensor: Any, name: str, timing: Timing) -> Value:
        if len(tensor.shape) < 2 or None in tensor.shape[2:] or tensor.dtype == "string":
            raise UnstreamableError(
                f"input {name!r}: got {tensor.dtype} {list(tensor.shape)}, expected [B, T, F], or "
                "[B, F] of what does not change, with a known F, of numbers; single readings are "
                "keras.Input((None, 1))."
            )
        return self._value(tensor, timing, 0)

    def _value(self, tensor: Any, timing: Timing, lag: int) -> Value:
        value = Value(self._count, tuple(tensor.shape), tensor.dtype, timing, lag)
        self._count += 1
        self._values[id(tensor)] = value
        self._kept.append(tensor)
        return value

    def _call(self, operation: Any, *arguments: Any, **keywords: Any) -> Any:
        """Binds one call, and goes on with what it gives."""
        if isinstance(operation, keras.layers.Layer) and takes(operation, "training"):
            # As a model that predicts has its layers, whatever each was built with.
            keywords["training"] = False
        with naming(operation):
            result = operation(*arguments, **keywords)
        if isinstance(operation, keras.layers.InputLayer):
            return result
        if isinstance(operation, keras.layers.RNN):
            arguments, keywords = _named(arguments, keywords)

        def valued(leaf: Any) -> Any:
            return self._values.get(id(leaf), leaf)

        given = keras.tree.map_structure(valued, (arguments, keywords))
        results = keras.tree.flatten(result)
        shapes = tuple(tuple(tensor.shape) for tensor in results)
        rule = self._rule(Call(operation, given[0], given[1], shapes, operation.name))
        outputs = [
            self._value(tensor, *when) for tensor, when in zip(results, rule.gives, strict=True)
        ]
        self.bound.append(Bound(rule, tuple(outputs)))
        if isinstance(operation, keras.layers.RNN):
            self._returned |= {value.index: rule.call.name for value in outputs[1:]}
        return result

    def _rule(self, call: Call) -> Rule:
        """Returns a call's rule, under a name that keeps its states apart from all others.

        The layer "rnn" of two cells has a state "rnn_1_h", and so has the layer "rnn_1".
        """
        while True:
            named = dataclasses.replace(call, name=self._unique(call.name))
            if isinstance(call.operation, keras.layers.RNN):
                named = self._without_hand_made_state(named)
            with naming(call.operation):
                rule = registry.rule(named)
            if self._states.isdisjoint(rule.initial_states):
                self._states |= rule.initial_states.keys()
                return rule

    def _without_hand_made_state(self, call: Call) -> Call:
        """Takes off an initial state that is an input of the model, which the stream keeps."""
        states = keras.tree.flatten(call.keywords.get("initial_state"))
        values = [each for each in states if isinstance(each, Value)]
        if not values or not all(each in self.inputs for each in values):
            return call
        self.carried |= {each.index: call.name for each in values}
        return dataclasses.replace(call, keywords={**call.keywords, "initial_state": None})

    def _unique(self, name: str) -> str:
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}_call{number}"
        self._names.add(unique)
        return unique


def _refuse_computed_starts(flat: Any) -> None:
    """Refuses recurrent layers that start from anything but zeros or inputs of the model."""
    given = {id(tensor) for tensor in flat.inputs}
    for node in itertools.chain.from_iterable(flat._nodes_by_depth.values()):
        if not isinstance(node.operation, keras.layers.RNN):
            continue
        _, keywords = _named(node.arguments.args, node.arguments.kwargs)
        starts = keras.tree.flatten(keywords.get("initial_state"))
        if any(isinstance(each, keras.KerasTensor) and id(each) not in given for each in starts):
            reason = (
                "its initial_state is computed from the model's inputs, and a stream begins before "
                "it has any"
            )
        elif any(not isinstance(each, keras.KerasTensor) and _is_set(each) for each in starts):
            reason = "its initial_state is a constant of the model"
        else:
            continue
        raise refused(
            node.operation,
            reason,
            "let it start from zeros, from what its cell's get_initial_state gives, or from an "
            "input that the model gives back as the next state",
        )


def _is_set(constant: Any) -> bool:
    return constant is not None and bool(keras.ops.any(keras.ops.not_equal(constant, 0)))


def _named(
    arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Gives what a recurrent layer is called with beside its sequence its names."""
    named = dict(zip(("initial_state", "mask"), arguments[1:], strict=False))
    return arguments[:1], {**keywords, **named}


def _timing(flat: Any, tensor: Any) -> Timing:
    """Tells whether an input is a sequence.

    One of single readings, `[B, T]`, is known by its open length, or by layers of whole
    numbers alone that look it up; else `[B, F]` comes beside the frames.
    """
    if len(tensor.shape) != 2 or tensor.shape[1] is None:
        return Timing.EACH
    takers = [
        operation
        for operation in flat.operations
        for node in operation._inbound_nodes
        if any(tensor is each for each in node.input_tensors)
    ]
    are_lookups = bool(takers) and all(
        isinstance(operation, keras.layers.Embedding) for operation in takers
    )
    return Timing.EACH if are_lookups and tensor.shape[1] > 1 else Timing.GIVEN


def _head_names(flat: Any) -> list[str]:
    """Returns the names of a model's outputs: its own in a dict, else its layers'."""
    given = [
        "_".join(map(str, path)) if any(isinstance(key, str) for key in path) else name
        for (path, _), name in zip(
            keras.tree.flatten_with_path(flat.output), flat.output_names, strict=True
        )
    ]
    names: list[str] = []
    for name in given:
        unique, number = name, 1
        while unique in names or (number > 1 and unique in given):
            number += 1
            unique = f"{name}_{number}"
        names.append(unique)
    return names

"""Slices: readings of each frame, or the last frame."""

from __future__ import annotations

import dataclasses
from typing import Any

from tickcell.model.keras.rules.per_frame import PerFrame
from tickcell.model.keras.rules.rule import (
    Call,
    Rule,
    States,
    Tensors,
    Timing,
    Value,
    refusal,
)


def item(call: Call) -> Rule:
    """Makes the rule of a slice: of the readings of each frame, or of the last frame."""
    value, key = call.arguments
    key = _written_out(value, key)
    call = dataclasses.replace(call, arguments=(value, key))
    rest = _last_frame(value, key)
    return Readings(call) if rest is None else Last(call, rest)


class Readings(PerFrame):
    """Some of the readings of each frame."""

    def check(self) -> None:
        kept = 2 if self.is_timed else 1
        if any(each != slice(None) for each in self.call.arguments[1][:kept]):
            raise refusal(
                self.call,
                "it takes a part of the sequence",
                "take the last frame, [:, -1], or readings of each, [:, :, :3]",
            )


class Last(Rule):
    """The last frame: at each step, this one."""

    def __init__(self, call: Call, rest: tuple[Any, ...]) -> None:
        super().__init__(call)
        value = call.arguments[0]
        self._input, self._rest = value.index, rest
        self.gives = [(Timing.SO_FAR, value.lag)]

    def step(self, tensors: Tensors, states: States, held: Any) -> tuple[list[Any], States]:  # noqa: ARG002 - of the base
        return [tensors[self._input][(slice(None), *self._rest)]], {}

    def whole(self, tensors: Tensors) -> list[Any]:
        return [tensors[self._input][(slice(None), slice(None), *self._rest)]]


def _written_out(value: Value, key: Any) -> tuple[Any, ...]:
    """Returns a key as a tuple, which a file has as a list, without an ellipsis."""
    keys = tuple(key) if isinstance(key, list | tuple) else (key,)
    if Ellipsis not in keys:
        return keys
    at = keys.index(Ellipsis)
    named = sum(each is not None for each in keys) - 1
    return (*keys[:at], *[slice(None)] * (len(value.shape) - named), *keys[at + 1 :])


def _last_frame(value: Value, key: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Returns the rest of a key that takes the last frame, or None."""
    if value.timing is not Timing.EACH or len(key) < 2 or key[0] != slice(None):
        return None
    step_count = value.shape[1]
    is_last = key[1] == -1 or (step_count is not None and key[1] == step_count - 1)
    return key[2:] if isinstance(key[1], int) and is_last else None

"""Which readings a Keras model takes as whole numbers, and which of those it knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import keras
import numpy as np

from tickcell.model.interface import InterfaceError, Sensor
from tickcell.model.keras.rules.lookup import Lookup

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.model.keras.plan import Plan

# A reading comes as float32, in which whole numbers further from 0 are not all there.
_LARGEST = 2**24 - 1

# What gives some of its input's numbers as they are, in another place or order.
_SELECTING = ("Cast", "ConvertToTensor", "ExpandDims", "GetItem", "Reshape", "Split", "Squeeze")


class Limits(NamedTuple):
    """The whole numbers that one reading may be, inclusive.

    Attributes:
      is_vocabulary: whether each of them has a meaning of its own.
    """

    lowest: int
    highest: int
    is_vocabulary: bool


def limits(plan: Plan) -> list[Limits | None]:
    """Returns the limits of each reading `[F]`; None where it need not be whole.

    Raises:
      UnstreamableError: a layer looks up what is no reading.
    """
    found: list[Limits | None] = [None] * plan.sensor_count
    for value, columns in plan.columns():
        if "int" in value.dtype:
            info = np.iinfo(value.dtype)
            bounds = Limits(max(info.min, -_LARGEST), min(info.max, _LARGEST), False)
            found[columns] = [bounds] * (columns.stop - columns.start)
    for rule, places in _lookups(plan):
        if plan.mask_value is not None and plan.mask_value not in range(rule.vocabulary_size):
            raise rule.beyond(plan.mask_value)
        for place in places:
            before = found[place]
            highest = min(rule.vocabulary_size - 1, before.highest if before else _LARGEST)
            found[place] = Limits(0, highest, True)
    return found


def sensors(plan: Plan, described: Sequence[Sensor]) -> tuple[Sensor, ...]:
    """Returns a model's sensors: whole where it takes whole numbers, within what it knows.

    Raises:
      InterfaceError: there are more or fewer than readings, or one has a range that is
        wider than what the model knows.
    """
    if len(described) != plan.sensor_count:
        raise InterfaceError(
            f"model: takes {plan.sensor_count} readings, and {len(described)} sensors are named; "
            "name them with --sensors."
        )
    return tuple(
        sensor if bounds is None else _whole(sensor, bounds)
        for sensor, bounds in zip(described, limits(plan), strict=True)
    )


def _whole(sensor: Sensor, bounds: Limits) -> Sensor:
    if sensor == Sensor.unlimited(sensor.name):
        lowest, highest = float(bounds.lowest), float(bounds.highest)
        return Sensor(sensor.name, sensor.unit, lowest, highest, whole=True)
    if sensor.min_reading < bounds.lowest or sensor.max_reading > bounds.highest:
        raise InterfaceError(
            f"sensor {sensor.name!r}: got the range {sensor.min_reading:g} to "
            f"{sensor.max_reading:g}, expected one within {bounds.lowest} to {bounds.highest}, "
            "which are the whole numbers that the model knows."
        )
    return dataclasses.replace(sensor, whole=True)


def _lookups(plan: Plan) -> list[tuple[Lookup, NDArray[np.int64]]]:
    """Returns what looks numbers up, each with the columns of a frame that it looks up."""
    # Columns are followed by their own numbers, through all that only selects.
    followed = {
        value.index: np.arange(columns.start, columns.stop).reshape(1, *value.frame_shape)
        for value, columns in plan.columns()
    }
    found = []
    for bound in plan.bound:
        rule, inputs = bound.rule, bound.rule.call.inputs
        if isinstance(rule, Lookup):
            if inputs[0].index not in followed:
                raise rule.computed()
            found.append((rule, followed[inputs[0].index].reshape(-1)))
        elif (
            type(rule.call.operation).__name__ in _SELECTING
            and not rule.initial_states
            and all(value.index in followed for value in inputs)
        ):
            numbers = {
                value.index: keras.ops.convert_to_tensor(followed[value.index]) for value in inputs
            }
            given, _ = rule.step(numbers, {}, None)
            followed |= {
                value.index: keras.ops.convert_to_numpy(each).astype(np.int64)
                for value, each in zip(bound.outputs, given, strict=True)
            }
    return found

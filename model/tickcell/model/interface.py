"""What a cell takes and gives: its sensors, its state tensors and its outputs.

An `Interface` is the part of a bundle that a program must agree with; it is
hashed into the bundle's fingerprint, so it holds no prose.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


# A reading without known limits may be any float32.
_FLOAT32_MAX = 3.4028234e38


class InterfaceError(ValueError):
    """An interface file says something that cannot be served."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sensor:
    """One reading of a frame and the limits of the sensor behind it, inclusive.

    Attributes:
      name: names it.
      unit: of its readings.
      min_reading: the lowest.
      max_reading: the highest.
      whole: whether its readings are whole numbers, such as places in a vocabulary.
    """

    name: str
    unit: str
    min_reading: float
    max_reading: float
    whole: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise InterfaceError("sensor: got an empty name, expected a name such as 'gyro_z'.")
        limits = (self.min_reading, self.max_reading)
        if not all(map(math.isfinite, limits)) or self.min_reading >= self.max_reading:
            raise InterfaceError(
                f"sensor {self.name!r}: got the range {list(limits)}, expected two finite numbers, "
                "the lower one first."
            )
        if not isinstance(self.whole, bool):
            raise InterfaceError(
                f"sensor {self.name!r}: got whole {self.whole!r}, expected a bool."
            )
        if self.whole and not all(float(limit).is_integer() for limit in limits):
            raise InterfaceError(
                f"sensor {self.name!r}: got the range {list(limits)}, expected whole numbers, as "
                "its readings are."
            )

    @classmethod
    def unlimited(cls, name: str) -> Sensor:
        """Returns a sensor of which nothing is known but a name."""
        return cls(name, "", -_FLOAT32_MAX, _FLOAT32_MAX)

    @property
    def expected(self) -> str:
        """What a reading must be, for a sentence."""
        if self.whole:
            return f"a whole number from {int(self.min_reading)} to {int(self.max_reading)}"
        return f"{self.min_reading:g} to {self.max_reading:g}"


@dataclasses.dataclass(frozen=True, slots=True)
class TensorSpec:
    """One state tensor for one series; `shape` has no axis of series.

    `initial` is its value before the first frame: one number for all elements, or one
    for each.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    initial: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        if not self.name:
            raise InterfaceError("state tensor: got an empty name, expected a name.")
        if self.dtype != "float32":
            raise InterfaceError(
                f"state tensor {self.name!r}: got dtype {self.dtype!r}, expected 'float32'."
            )
        if any(size < 1 for size in self.shape):
            raise InterfaceError(
                f"state tensor {self.name!r}: got shape {list(self.shape)}, expected sizes of "
                "at least 1."
            )
        starts = self.initial if isinstance(self.initial, tuple) else (self.initial,)
        is_finite = all(isinstance(each, int | float) and math.isfinite(each) for each in starts)
        if not is_finite or (isinstance(self.initial, tuple) and len(starts) != self.size):
            raise InterfaceError(
                f"state tensor {self.name!r}: got the initial state {self.initial!r}, expected one "
                f"finite number, or {self.size} of them."
            )

    @property
    def size(self) -> int:
        """The number of elements for one series."""
        return math.prod(self.shape)


KINDS = ("probability", "classes", "number")


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """One of a model's outputs: one or more numbers of an output row.

    Attributes:
      name: names it.
      size: how many numbers it has.
      kind: "probability" of what it means; "classes", of which each number is the
        probability of one and the highest tells which; or "number".
      classes: their names, in order, if they have any; of classes alone.
    """

    name: str
    size: int
    kind: str = "number"
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or self.size < 1 or self.kind not in KINDS:
            raise InterfaceError(
                f"output {self.name!r}: got size {self.size} and kind {self.kind!r}, expected a "
                f"name, a size of at least 1 and one of {', '.join(KINDS)}."
            )
        if self.kind == "classes" and self.size < 2:
            raise InterfaceError(
                f"output {self.name!r}: is of classes and has one number, expected one for each of "
                "two or more; a number that tells one from none is a probability."
            )
        if self.classes and (self.kind != "classes" or len(self.classes) != self.size):
            raise InterfaceError(
                f"output {self.name!r}: got {len(self.classes)} names of classes, expected "
                f"{self.size if self.kind == 'classes' else 0} for {self.size} of kind "
                f"{self.kind!r}."
            )

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of its numbers."""
        if self.size == 1:
            return (self.name,)
        return self.classes or tuple(f"{self.name}_{each}" for each in range(1, self.size + 1))


@dataclasses.dataclass(frozen=True, slots=True)
class Interface:
    """The sensors, state tensors and outputs of one cell, each in order.

    The order of `state_tensors` is the order in which they lie in a packed state
    row; the graph's tensors are found by name, never by order. A frame of which all
    readings equal `mask_value` is masked: a step that changes nothing behind the mask.
    """

    sensors: tuple[Sensor, ...]
    state_tensors: tuple[TensorSpec, ...]
    heads: tuple[Head, ...]
    mask_value: float | None = None

    def __post_init__(self) -> None:
        for kind, names in (
            ("sensor", [sensor.name for sensor in self.sensors]),
            ("state tensor", [tensor.name for tensor in self.state_tensors]),
            ("output", list(self.output_names)),
        ):
            if not names:
                raise InterfaceError(f"interface: got no {kind}, expected at least one.")
            if len(set(names)) != len(names):
                raise InterfaceError(f"interface: the {kind} names {names} are not all different.")

    @property
    def sensor_count(self) -> int:
        """F, the readings in a frame."""
        return len(self.sensors)

    @property
    def state_size(self) -> int:
        """S, the float32 elements of one series' state, all tensors together."""
        return sum(tensor.size for tensor in self.state_tensors)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the numbers in an output row, with their head's where there are several."""
        if len(self.heads) == 1:
            return self.heads[0].output_names
        return tuple(
            name if name == head.name or not head.classes else f"{head.name}_{name}"
            for head in self.heads
            for name in head.output_names
        )

    def columns(self, name: str) -> range:
        """Returns which numbers of an output row a head has."""
        start = 0
        for head in self.heads:
            if head.name == name:
                return range(start, start + head.size)
            start += head.size
        raise KeyError(name)

    @property
    def initial_state(self) -> NDArray[np.float32]:
        """One series' state before the first frame, `[S]`."""
        parts = [np.full(tensor.size, tensor.initial, np.float32) for tensor in self.state_tensors]
        return np.concatenate(parts)

    @property
    def output_count(self) -> int:
        """O, the numbers in an output row."""
        return len(self.output_names)

    def to_json(self) -> bytes:
        """Encodes the interface; the same interface gives the same bytes."""
        return (json.dumps(dataclasses.asdict(self), indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, encoded: bytes) -> Interface:
        """Decodes an interface.

        Raises:
          InterfaceError: it is not JSON, or a field is missing, unknown or impossible.
        """
        try:
            fields: Any = json.loads(encoded)
            return cls(
                sensors=tuple(Sensor(**sensor) for sensor in fields.pop("sensors")),
                state_tensors=tuple(_tensor_spec(tensor) for tensor in fields.pop("state_tensors")),
                heads=tuple(
                    Head(**{**head, "classes": tuple(head["classes"])})
                    for head in fields.pop("heads")
                ),
                **fields,
            )
        except InterfaceError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InterfaceError(f"interface: cannot be read: {error!r}.") from error


def unnamed_sensors(count: int) -> tuple[Sensor, ...]:
    """Returns sensors of which nothing is known but their number."""
    return tuple(Sensor.unlimited(f"reading_{number}") for number in range(1, count + 1))


def _tensor_spec(fields: dict[str, Any]) -> TensorSpec:
    initial = fields["initial"]
    if isinstance(initial, list):
        initial = tuple(initial)
    return TensorSpec(**{**fields, "shape": tuple(fields["shape"]), "initial": initial})

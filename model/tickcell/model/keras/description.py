"""What a file of weights does not say of a model: its sensors, its rate, what it means.

`tickcell train` writes it beside the model as `description.json`, and `tickcell export`
takes it into the bundle's interface and card.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any, cast

from tickcell.model.interface import InterfaceError, Sensor
from tickcell.model.recording.labels import Kind, Labelling

if TYPE_CHECKING:
    from tickcell.model.keras.plan import Plan

FILE_NAME = "description.json"

# A reading without known limits may be any float32.
_FLOAT32_MAX = 3.4028234e38


class DescriptionError(ValueError):
    """A description cannot be read."""


@dataclasses.dataclass(frozen=True, slots=True)
class Description:
    """What a person says of a model; see `Card` for the fields of the same names."""

    name: str
    version: str
    sensors: tuple[Sensor, ...]
    rate_hz: float
    output_meaning: str
    output_name: str = "output"
    threshold: float = 0.5
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    kind: str = "probability"
    classes: list[str] = dataclasses.field(default_factory=list)
    unit: str = ""

    def labelling(self, null_class: str | None = None) -> Labelling:
        """Returns what labels are that the outputs can be compared with."""
        kind = cast("Kind", self.kind)  # It is checked where it becomes part of a labelling.
        return Labelling(kind, tuple(self.classes), null_class, self.unit)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the description as JSON."""
        pathlib.Path(path).write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Description:
        """Reads a description.

        Raises:
          DescriptionError: it is missing, not JSON, or a field is missing, unknown or wrong.
        """
        try:
            fields = json.loads(pathlib.Path(path).read_text())
            return cls(
                sensors=tuple(Sensor(**sensor) for sensor in fields.pop("sensors")), **fields
            )
        except (OSError, InterfaceError) as error:
            raise DescriptionError(f"{path}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DescriptionError(f"{path}: cannot be read: {error!r}.") from error


def sensors_of(plan: Plan) -> tuple[Sensor, ...]:
    """Returns sensors for a model of which only the inputs are known, named after them."""
    if len(plan.inputs) == 1:
        return unnamed_sensors(plan.sensor_count)
    return tuple(
        Sensor(f"{name}_{number}", "", -_FLOAT32_MAX, _FLOAT32_MAX)
        for name, (_, columns) in zip(plan.input_names, plan.columns(), strict=True)
        for number in range(1, columns.stop - columns.start + 1)
    )


def unnamed_sensors(count: int) -> tuple[Sensor, ...]:
    """Returns sensors for a model of which only the width of a frame is known."""
    return tuple(
        Sensor(f"reading_{number}", "", -_FLOAT32_MAX, _FLOAT32_MAX)
        for number in range(1, count + 1)
    )

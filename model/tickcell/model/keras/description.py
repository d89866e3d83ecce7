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

from tickcell.model.interface import InterfaceError, Sensor, unnamed_sensors
from tickcell.model.outputs import Described
from tickcell.model.recording.labels import Kind, Labelling

if TYPE_CHECKING:
    from tickcell.model.keras.plan import Plan

FILE_NAME = "description.json"


class DescriptionError(ValueError):
    """A description cannot be read."""


@dataclasses.dataclass(frozen=True, slots=True)
class Description:
    """What a person says of a model; see `Card` for the fields of the same names.

    Attributes:
      sensors: of a frame, in order.
      outputs: what is said of them; see `outputs.described`.
    """

    name: str
    version: str
    sensors: tuple[Sensor, ...]
    rate_hz: float
    outputs: tuple[Described, ...] = ()
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)

    def labelling(self, null_class: str | None = None) -> Labelling:
        """Returns what labels are that can stand beside the first output."""
        first = self.outputs[0] if self.outputs else Described("output")
        kind = cast("Kind", first.kind or "probability")  # It is checked by the labelling.
        return Labelling(kind, first.classes, null_class, first.unit)

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
                sensors=tuple(Sensor(**sensor) for sensor in fields.pop("sensors")),
                outputs=tuple(map(_output, fields.pop("outputs"))),
                **fields,
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
        Sensor.unlimited(f"{name}_{number}")
        for name, (_, columns) in zip(plan.input_names, plan.columns(), strict=True)
        for number in range(1, columns.stop - columns.start + 1)
    )


def _output(fields: dict[str, Any]) -> Described:
    return Described(**{**fields, "classes": tuple(fields.get("classes", ()))})

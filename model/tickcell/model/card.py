"""A bundle's card: what a person should know of a model, beside what a program must agree with."""

from __future__ import annotations

import dataclasses
import math
from types import NoneType
from typing import TYPE_CHECKING, Any

from tickcell.model import ids

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tickcell.model.interface import Head

# From which number on a probability is taken to say that what it means holds.
THRESHOLD = 0.5


class BundleError(ValueError):
    """A bundle is missing, incomplete, damaged or tampered with."""


# By the annotation of a card's field.
_KINDS: dict[str, tuple[type[Any] | tuple[type[Any], ...], str]] = {
    "str": (str, "a text"),
    "int": (int, "an integer"),
    "float": ((int, float), "a finite number"),
    "float | None": ((int, float, NoneType), "a finite number"),
    "int | None": ((int, NoneType), "an integer"),
    "dict[str, Any]": (dict, "an object"),
    "dict[str, Output]": (dict, "an object"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """What a card says of one output; its name, size, kind and classes are its head's.

    Attributes:
      meaning: what it means, as a sentence; empty where nobody has said it.
      unit: of a number; empty if it has none.
      threshold: the number at and above which the meaning is taken to hold; of a
        probability, and of it alone.
    """

    meaning: str = ""
    unit: str = ""
    threshold: float | None = None

    def __post_init__(self) -> None:
        _check_types(self, "card: outputs")


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """What a person should know of a model.

    Attributes:
      name: names the model.
      version: tells versions of one name apart.
      rate_hz: the rate of frames at which it was trained.
      outputs: what each output means, by the name of its head.
      warm_up_steps: steps after a zero state whose outputs are not to be trusted yet.
      training: how the model was trained: data, seed, versions.
      metrics: how it does, by name.
      keras_max_delta: the largest |delta| measured between the streamed outputs and
        those of Keras over the whole sequence; None where there is no Keras model.
      keras_max_delta_steps: over how many steps that was measured.
    """

    name: str
    version: str
    rate_hz: float
    outputs: dict[str, Output]
    warm_up_steps: int
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    keras_max_delta: float | None = None
    keras_max_delta_steps: int | None = None

    def __post_init__(self) -> None:
        _check_types(self, "card")
        for field in ("name", "version"):
            if not ids.is_id(getattr(self, field)):
                raise BundleError(
                    f"card: got the {field} {getattr(self, field)!r}, expected {ids.EXPECTED}."
                )
        if not self.rate_hz > 0:
            raise BundleError(f"card: got rate_hz {self.rate_hz}, expected a rate above 0.")

    def check(self, heads: Iterable[Head]) -> None:
        """Compares what is said of outputs with the outputs that there are.

        Raises:
          BundleError: an output is missing or left over, or has what its kind has not.
        """
        kinds = {head.name: head.kind for head in heads}
        if list(self.outputs) != list(kinds):
            raise BundleError(
                f"card: got the outputs {list(self.outputs)}, expected those of the interface, "
                f"{list(kinds)}."
            )
        for name, output in self.outputs.items():
            if (output.threshold is None) == (kinds[name] == "probability"):
                raise BundleError(
                    f"card: output {name!r} is of the kind {kinds[name]!r} and has the threshold "
                    f"{output.threshold}; a probability has one, and nothing else has."
                )
            if output.unit and kinds[name] != "number":
                raise BundleError(
                    f"card: output {name!r} is of the kind {kinds[name]!r} and has the unit "
                    f"{output.unit!r}; a unit is of a number."
                )

    def to_fields(self) -> dict[str, Any]:
        """Returns the card as plain data, without what is not known."""
        return {
            name: value for name, value in dataclasses.asdict(self).items() if value is not None
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Card:
        """Makes a card of what `to_fields` gave.

        Raises:
          BundleError: a field has another type than it must, or a value that cannot be.
          TypeError, AttributeError: a field is missing or unknown, or is no object.
        """
        outputs = {name: Output(**output) for name, output in fields.pop("outputs").items()}
        return cls(outputs=outputs, **fields)


def _check_types(of: Card | Output, name: str) -> None:
    for field in dataclasses.fields(of):
        got = getattr(of, field.name)
        kinds, expected = _KINDS[str(field.type)]
        is_number = isinstance(got, int | float)
        if not isinstance(got, kinds) or (is_number and not math.isfinite(got)):
            raise BundleError(f"{name}: got {field.name} {got!r}, expected {expected}.")

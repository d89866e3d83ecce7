"""Labels as a file has them, and as they are learnt and scored.

A file has texts or numbers. They become float32: 0 and 1, the place of a class, or a number;
NaN where a frame has no label, which is neither learnt nor scored.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from tickcell.model.recording.errors import RecordingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["probability", "classes", "number"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Whole numbers of no more values than this are taken for classes, if nobody says otherwise.
_MOST_CLASSES = 32
_SHOWN = 6


@dataclasses.dataclass(frozen=True, slots=True)
class Labelling:
    """What labels are.

    Attributes:
      kind: "probability" of labels 0 and 1, "classes" of which each label is one, or "number".
      classes: their names, in order; a label's value is its place.
      null_class: a label that says that there is none, as an empty one does.
      unit: of a number; empty if it has none.
    """

    kind: Kind = "probability"
    classes: tuple[str, ...] = ()
    null_class: str | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RecordingError(f"labels: got the kind {self.kind!r}, expected {KINDS}.")
        if self.kind == "classes" and len({*self.classes}) < max(2, len(self.classes)):
            raise RecordingError(
                f"labels: got the classes {[*self.classes]}, expected two or more, each once."
            )

    @property
    def output_count(self) -> int:
        """How many outputs tell such a label: one, or one for each class."""
        return len(self.classes) if self.kind == "classes" else 1

    @property
    def expected(self) -> str:
        """What a label must be, for a sentence."""
        if self.kind == "classes":
            return f"one of the classes {_listed(self.classes)}"
        return "a number" if self.kind == "number" else "0 or 1"

    def encode(self, labels: Sequence[Any] | NDArray[Any]) -> NDArray[np.float32]:
        """Returns labels as numbers: NaN where there is none, infinite where it is wrong."""
        codes: dict[Any, float] = {}
        encoded = np.empty(len(labels), np.float32)
        for index, label in enumerate(labels):
            code = codes.get(label)
            if code is None:
                code = codes[label] = self._code(label)
            encoded[index] = code
        return encoded

    def _code(self, label: Any) -> float:
        name = _name(label)
        if name in ("", self.null_class):
            return math.nan
        if self.kind == "classes":
            return self.classes.index(name) if name in self.classes else math.inf
        number = _number(name)
        if number is None or (self.kind == "probability" and number not in (0, 1)):
            return math.inf
        return number

    @classmethod
    def judged(
        cls, labels: Iterable[Any], *, kind: Kind | None = None, null_class: str | None = None
    ) -> Labelling:
        """Judges what labels are.

        Labels of 0 and 1 tell a probability; words, and whole numbers of few values, are
        classes; other numbers are numbers.

        Args:
          labels: as files have them, all of them or each once.
          kind: what they are; None where it is to be judged.
          null_class: a label that says that there is none.

        Raises:
          RecordingError: there is no label, or one is not of the kind.
        """
        names = {_name(label) for label in labels} - {"", null_class}
        numbers = {name: _number(name) for name in names}
        values = {number for number in numbers.values() if number is not None}
        if not names:
            raise RecordingError("labels: there are none, only empty ones.")
        is_binary = values <= {0, 1} and len(values) == len(names)
        is_number = None not in numbers.values()
        is_whole = is_number and all(value.is_integer() for value in values)
        if kind is None:
            few = is_whole and len(names) <= _MOST_CLASSES
            kind = "probability" if is_binary else "classes" if few or not is_number else "number"
        if (kind == "number" and not is_number) or (kind == "probability" and not is_binary):
            strange = sorted(name for name in names if numbers[name] is None) or sorted(names)
            raise RecordingError(
                f"labels: got {_listed(strange)}, expected {cls(kind).expected}; --labels says "
                "what they are, --null-class which of them says that there is none."
            )
        if kind != "classes":
            return cls(kind, null_class=null_class)
        ordered = sorted(names, key=(lambda name: numbers[name]) if is_number else None)  # type: ignore[arg-type, return-value]
        return cls(kind, tuple(ordered), null_class)

    def __str__(self) -> str:
        if self.kind == "classes":
            return f"{len(self.classes)} classes ({_listed(self.classes)})"
        return {"number": "numbers", "probability": "0 and 1"}[self.kind]


def countdown(times: NDArray[np.float64], cap: float | None) -> NDArray[np.float32]:
    """Returns what remains of a recording at each frame, in the unit of its times, at most a cap."""
    return np.asarray(np.minimum(times[-1] - times, np.inf if cap is None else cap), np.float32)


def _name(label: Any) -> str:
    """Returns a label's text; a whole number's without a fraction, a missing one's empty."""
    if label is None:
        return ""
    text = str(label).strip()
    if isinstance(label, bool | np.bool_):
        return str(int(label))
    number = _number(text)
    if number is not None and number.is_integer():
        return str(int(number))
    return "" if text.lower() == "nan" else text


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

"""Labels as a file has them, and as they are learnt and scored.

A file has texts or numbers. They become float32: 0 and 1, the place of a class, or a number;
NaN where a frame has no label, which is neither learnt nor scored.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

import numpy as np

from tickcell.model.recording.errors import RecordingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["probability", "classes", "number"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Whole numbers of no more values than this are taken for classes, if nobody says otherwise.
_MOST_CLASSES = 32
_SHOWN = 6


class OfOutput(NamedTuple):
    """What labels of an output are, by what the output is.

    Attributes:
      name: of the output.
      kind: of it.
      size: how many numbers it has.
      classes: their names, if they have any.
      unit: of a number; empty if it has none.
    """

    name: str
    kind: str
    size: int
    classes: tuple[str, ...]
    unit: str


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

    @classmethod
    def of_outputs(
        cls, model: str, outputs: Sequence[OfOutput], null_class: str | None = None
    ) -> tuple[Labelling, tuple[str, ...]]:
        """Returns what labels are that are of all of these outputs, and what that assumes.

        Args:
          model: what to call the model in messages.
          outputs: at least one.
          null_class: a label that says that there is none.

        Raises:
          RecordingError: the outputs differ, so no label is of all of them.
        """
        kinds = {
            (one.kind, one.size if one.kind == "classes" else 1, one.classes, one.unit)
            for one in outputs
        }
        if len(kinds) > 1:
            listed = ", ".join(f"{one.name} ({one.kind})" for one in outputs)
            raise RecordingError(
                f"{model}: has the outputs {listed}, and no label is of all of them; name one with "
                "--output."
            )
        ((kind, size, classes, unit),) = kinds
        notes: tuple[str, ...] = ()
        if kind == "classes" and not classes:
            classes = tuple(map(str, range(size)))
            notes = (
                f"the classes have no names in the bundle: labels are taken for class numbers, "
                f"0 to {size - 1}",
            )
        return cls(cast("Kind", kind), classes, null_class, unit), notes

    def text(self, code: float) -> str:
        """Returns the text of an encoded label; nothing where there is none."""
        if math.isnan(code):
            return ""
        if self.kind == "classes":
            return self.classes[int(code)]
        return str(np.float32(code)) if self.kind == "number" else f"{code:g}"

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
        if name in ("", _name(self.null_class)):
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
          RecordingError: there is no label, one is not of the kind, or the kind is not clear.
        """
        names = {_name(label) for label in labels} - {"", _name(null_class)}
        numbers = {name: _number(name) for name in names}
        values = {number for number in numbers.values() if number is not None}
        if not names:
            raise RecordingError("labels: there are none, only empty ones.")
        is_binary = values <= {0, 1} and len(values) == len(names)
        is_number = None not in numbers.values()
        is_whole = is_number and all(value.is_integer() for value in values)
        if kind is None and values and not is_number:
            words = sorted(name for name in names if numbers[name] is None)
            raise RecordingError(
                f"labels: got words ({_listed(words)}) beside numbers "
                f"({_listed(sorted(names - {*words}))}); --labels classes takes each for a class, "
                "--null-class one of them for none."
            )
        if kind is None:
            few = is_whole and len(names) <= _MOST_CLASSES
            kind = "probability" if is_binary else "classes" if few or not is_number else "number"
        if (kind == "number" and not is_number) or (kind == "probability" and not is_binary):
            strange = sorted(name for name in names if numbers[name] is None) or sorted(names)
            raise RecordingError(
                f"labels: got {_listed(strange)}, expected {cls(kind).expected}; --labels sets "
                "their kind, --null-class the label that means no label."
            )
        if kind != "classes":
            return cls(kind, null_class=null_class)
        ordered = sorted(names, key=(lambda name: numbers[name]) if is_number else None)  # type: ignore[arg-type]
        return cls(kind, tuple(ordered), null_class)

    def __str__(self) -> str:
        if self.kind == "classes":
            return f"{len(self.classes)} classes ({_listed(self.classes)})"
        return {"number": "numbers", "probability": "0 and 1"}[self.kind]


@dataclasses.dataclass(frozen=True, slots=True)
class Labels:
    """Where labels come from, and what a person says of them; plain data.

    Attributes:
      kind: what they are; None where it is to be judged.
      null_class: a label that says that there is none.
      countdown: whether a frame's label is what remains of its recording, in the unit of its
        times, and not a column.
      cap: at most that is remaining; None for no limit.
      file: of a text with a line per recording, its label; empty where a column has them.
    """

    kind: Kind | None = None
    null_class: str | None = None
    countdown: bool = False
    cap: float | None = None
    file: str = ""

    def __post_init__(self) -> None:
        if self.countdown and (self.file or self.kind not in (None, "number")):
            raise RecordingError(
                "labels: a countdown is a number of each frame, and no file of labels goes with it."
            )
        if self.cap is not None and not self.cap > 0:
            raise RecordingError(f"--label-countdown: got {self.cap:g}, expected a cap above 0.")

    @property
    def are_of_column(self) -> bool:
        """Whether a column of the recordings has them."""
        return not (self.countdown or self.file)

    def judged(self, values: Iterable[Any]) -> Labelling:
        """Judges what labels are by their values; see `Labelling.judged`."""
        return Labelling.judged(values, kind=self.kind, null_class=self.null_class)

    def read_file(self) -> list[str]:
        """Reads the labels of recordings, in their order.

        Raises:
          RecordingError: the file cannot be read.
        """
        try:
            lines = pathlib.Path(self.file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RecordingError(f"{self.file}: cannot be read: {error}.") from error
        return [line.strip() for line in lines if line.strip()]

    def assigned(
        self, times: Sequence[NDArray[np.float64]], labelling: Labelling
    ) -> list[NDArray[np.float32]]:
        """Returns the labels of recordings that no column has.

        Args:
          times: of the frames of each recording, `[T]`.
          labelling: what the labels are.

        Raises:
          RecordingError: the file has another number of labels, or one that is wrong.
        """
        if self.countdown:
            cap = np.inf if self.cap is None else self.cap
            return [np.minimum(each[-1] - each, cap).astype(np.float32) for each in times]
        lines = self.read_file()
        if len(lines) != len(times):
            raise RecordingError(
                f"{self.file}: has {len(lines)} labels, expected {len(times)}, one for each "
                "recording."
            )
        codes = labelling.encode(lines)
        if (wrong := np.flatnonzero(np.isinf(codes))).size:
            raise RecordingError(
                f"{self.file}: line {wrong[0] + 1}: got {lines[wrong[0]]!r}, expected "
                f"{labelling.expected}."
            )
        return [np.full(len(each), code) for each, code in zip(times, codes, strict=True)]


def _name(label: Any) -> str:
    """Returns a label's text; 1 for true, a whole number's without a fraction, nothing's empty."""
    if label is None:
        return ""
    text = str(label).strip()
    if text.lower() in ("true", "false"):
        return str(int(text.lower() == "true"))
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

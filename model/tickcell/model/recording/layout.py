"""What a caller says of a file, so that nothing of it has to be guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from tickcell.model.recording.errors import RecordingError

TimeUnit = Literal["s", "ms", "us", "ns", "cycle"]
OnGap = Literal["raise", "split", "keep"]

NO_TIMES = "none"
_MAX_GAP = 10.0  # periods


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """How a file is to be read; what is None is judged by the first rows, and said.

    Attributes:
      time: the column of times; "none" for a file whose times are to be ignored.
      time_unit: of the times.
      label: the column of labels; None for none, or where labels are wanted for the only
        column that is neither a sensor's nor the time's.
      recording_column: the column by which a file is parted into recordings; rows of one
        follow each other.
      delimiter: between the cells of a text; a space stands for runs of spaces and tabs.
      decimal: the mark before a fraction, "." or ",".
      columns: the names of the columns of a file without a row of names, in order.
      sources: by the name of a sensor, the column or topic and field that it is read from.
      clock_topic: the topic of a robot's log whose messages are the ticks.
      max_gap: how many periods may lie between two frames.
      on_gap: what is done with a longer gap: it is refused, begins a new recording, or is
        kept and counted. None refuses it in a file, and keeps it on standard input, where
        what was read cannot be read again.
    """

    time: str | None = None
    time_unit: TimeUnit | None = None
    label: str | None = None
    recording_column: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    columns: tuple[str, ...] = ()
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    clock_topic: str | None = None
    max_gap: float = _MAX_GAP
    on_gap: OnGap | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("time_unit (--time-unit)", self.time_unit, get_args(TimeUnit)),
            ("decimal (--decimal)", self.decimal, (".", ",")),
            ("on_gap (--on-gap)", self.on_gap, get_args(OnGap)),
        ):
            if value is not None and value not in allowed:
                raise RecordingError(f"{name}: got {value!r}, expected {', '.join(allowed)}.")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise RecordingError(
                f"delimiter (--delimiter): got {self.delimiter!r}, expected one character."
            )
        if self.delimiter is not None and self.delimiter == self.decimal:
            raise RecordingError(
                f"delimiter and decimal: both are {self.delimiter!r}, expected two characters."
            )
        if not self.max_gap >= 1:
            raise RecordingError(
                f"max_gap (--max-gap): got {self.max_gap}, expected 1 or more periods."
            )

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Layout:
        """Makes a layout of its fields as plain data, from JSON too."""
        return cls(**{**fields, "columns": tuple(fields["columns"])})

    def source(self, sensor: str) -> str:
        """Returns the name of the column that a sensor is read from."""
        return self.sources.get(sensor, sensor)

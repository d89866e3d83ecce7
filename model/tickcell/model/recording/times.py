"""Which column holds the times of the frames, in what unit, and the rate that follows."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

import numpy as np

from tickcell.model.recording.errors import RecordingError
from tickcell.model.recording.layout import NO_TIMES, Layout, TimeUnit
from tickcell.model.recording.table import Table, listed

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The usual names of a column of times, the surest first; units and marks are cut off before.
_NAMES = (
    "t",
    "time",
    "times",
    "timestamp",
    "ts",
    "datetime",
    "stamp",
    "elapsed",
    "elapsedtime",
    "secondselapsed",
    "unixtime",
    "epoch",
    "utc",
    "sec",
    "s",
    "millis",
    "micros",
    "nanos",
)
_UNIT_WORDS: dict[str, TimeUnit] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "milli", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "µs", "usec", "micro", "micros", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nano", "nanos", "nanosecond", "nanoseconds"), "ns"),
}
_DIVISORS: dict[TimeUnit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9, "cycle": 1}
_PLURAL = {"s": "s", "ms": "ms", "us": "us", "ns": "ns", "cycle": "cycles"}
# Of a spacing that is not said to be anything else: between 1 and 1000 frames a second.
_SPACINGS: tuple[tuple[float, TimeUnit], ...] = ((1.0, "s"), (1e3, "ms"), (1e6, "us"), (1e9, "ns"))
_GUESSED = "guessed from its spacing"
_ASSUMED = "assumed; --time-unit names another"
_AS_EXPECTED = 1.25
_EVEN = 0.01


class TimeColumn(NamedTuple):
    """A column of times.

    Attributes:
      place: its index in the table's names.
      name: its name.
      unit: of its numbers; None for texts of dates and times (ISO 8601).
      reason: how the unit is known, for a sentence.
      is_guessed: whether it is not known, but likely.
      others: columns that could have been it.
    """

    place: int
    name: str
    unit: TimeUnit | None
    reason: str
    is_guessed: bool
    others: tuple[str, ...] = ()

    def seconds(self, times: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
        """Returns times in seconds; NaN for what cannot be one."""
        if isinstance(times, np.ndarray):
            return np.asarray(times / _DIVISORS[self.unit or "s"], np.float64)
        return np.array([_seconds(time, self.unit) for time in times], np.float64)

    def note(self, rate_hz: float | None) -> str:
        """Says what is taken for the times."""
        unit = "dates and times" if self.unit is None else f"in {_PLURAL[self.unit]}"
        others = f", not {listed(self.others)}" if self.others else ""
        rate = "" if rate_hz is None else f"; {rate_hz:g} Hz"
        return f"time: column {self.name}{others}, {unit} ({self.reason}){rate}"


def find(
    table: Table, layout: Layout, taken: Sequence[str], expected_hz: float | None
) -> TimeColumn | None:
    """Finds the column of times of a table; None where there is none, or it is to be ignored.

    Args:
      table: whose column it is.
      layout: what is known of it.
      taken: the columns of sensors and labels, which are no times.
      expected_hz: the rate that a recording should have, if one is known.

    Raises:
      RecordingError: the column that was named is not there, or its unit cannot be told.
    """
    if layout.time == NO_TIMES and NO_TIMES not in table.names:
        return None
    if layout.time is not None:
        if layout.time not in table.names:
            raise RecordingError(
                f"{table.source}: no column is named {layout.time!r} (--time); the columns are "
                f"{listed(table.names)}."
            )
        found = [layout.time]
    else:
        typed = [name for name in table.time_columns if name not in taken]
        found = typed or _candidates(table, taken)
    if not found:
        return None
    name, index = found[0], table.names.index(found[0])
    unit, reason = _unit(table, layout, name, index, expected_hz)
    return TimeColumn(index, name, unit, reason, reason in (_GUESSED, _ASSUMED), tuple(found[1:]))


def rate_hz(seconds: NDArray[np.float64]) -> float | None:
    """Returns the rate of frames at such times; None where they do not tell.

    A rate that is a short number but for its rounding is that number.
    """
    spacings = np.diff(seconds)
    spacings = spacings[spacings > 0]
    if not len(spacings):
        return None
    period = float(np.median(spacings))
    if np.abs(spacings - period).max() <= _EVEN * period:
        period = float(spacings.mean())  # Times are rounded; over many that evens out.
    rate = 1 / period
    short = float(f"{rate:.4g}")
    return short if abs(rate - short) <= 1e-6 * rate else rate


def _candidates(table: Table, taken: Sequence[str]) -> list[str]:
    """Returns the columns that could be the times, the surest first."""
    free = [name for name in table.names if name not in taken]
    plain = {name: _plain(name)[0] for name in free}
    found = [name for wanted in _NAMES for name in free if plain[name] == wanted]
    samples = {name: table.sample(table.names.index(name)) for name in found}
    readable = [name for name in found if not samples[name] or _is_time(samples[name][0])]
    if found and not readable:
        raise RecordingError(
            f"{table.source}: column {found[0]!r}: got {samples[found[0]][0]!r} in the first row, "
            "expected a number, or a date and time as ISO 8601 has them; remove a row that holds "
            "no readings, name another column of times with --time, or ignore them with --time "
            "none."
        )
    return readable


def _is_time(value: Any) -> bool:
    if isinstance(value, str):
        return _number(value) is not None or _iso(value) is not None
    return isinstance(value, int | float | np.number)


def _plain(name: str) -> tuple[str, TimeUnit | None]:
    """Returns a name without its unit and marks, and the unit: ("time", "ms") of "Time [ms]"."""
    words = [word for word in re.split(r"[^a-zµ]+", name.lower()) if word]
    unit = _UNIT_WORDS.get(words[-1]) if words else None
    if unit is not None and len(words) > 1:
        words.pop()
    return "".join(words), unit


def _unit(
    table: Table, layout: Layout, name: str, index: int, expected_hz: float | None
) -> tuple[TimeUnit | None, str]:
    """Returns the unit of a column of times, and how it is known."""
    if layout.time_unit is not None:
        return layout.time_unit, "as asked"
    if (typed := table.time_columns.get(name)) is not None:
        return cast("TimeUnit", typed), "by its type"
    plain, unit = _plain(name)
    sample = table.sample(index)
    if sample and isinstance(sample[0], str) and _number(sample[0]) is None:
        parsed = [_parsed(time) for time in sample]
        naive_count = sum(time is not None and time.tzinfo is None for time in parsed)
        zones = "no zone" if naive_count == len(sample) else "some without a zone"
        return None, f"ISO 8601; {zones}, taken to be UTC" if naive_count else "ISO 8601"
    if unit is not None and plain != "s":
        return unit, "by its name"
    spacing = rate_hz(np.array([_seconds(time, "s") for time in sample], np.float64))
    if spacing is None:
        return "s", _ASSUMED
    return _guessed(table.source, name, 1 / spacing, expected_hz), _GUESSED


def _guessed(source: str, name: str, spacing: float, expected_hz: float | None) -> TimeUnit:
    """Returns the unit that makes a rate which can be meant out of a spacing of times."""
    if expected_hz is not None:
        for unit in get_args(TimeUnit)[:4]:
            ratio = _DIVISORS[unit] / spacing / expected_hz
            if 1 / _AS_EXPECTED < ratio < _AS_EXPECTED:
                return cast("TimeUnit", unit)
    for most, unit in _SPACINGS:
        if spacing <= most * (1 + _EVEN):
            return unit
    raise RecordingError(
        f"{source}: column {name!r}: times lie {spacing:g} apart, which is not a usual rate in "
        "any unit; name it with --time-unit."
    )


def _seconds(time: Any, unit: TimeUnit | None) -> float:
    """Returns one time in seconds; NaN where it is none."""
    if isinstance(time, str):
        number = _number(time)
        if number is None:
            parsed = _iso(time)
            return math.nan if parsed is None else parsed
        time = number
    if isinstance(time, np.number):
        time = time.item()
    if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time):
        return math.nan
    # Whole numbers are divided exactly, however many digits they have.
    return time / _DIVISORS[unit or "s"]


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def _iso(text: str) -> float | None:
    parsed = _parsed(text)
    if parsed is None:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)).timestamp()


def _parsed(text: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text.strip().replace(",", "."))
    except ValueError:
        return None

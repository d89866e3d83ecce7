"""What a caller asks for, checked before anything is sent."""

from __future__ import annotations

import math
import numbers
import operator
from typing import TYPE_CHECKING

from tickcell.client import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

# The wire's counts are int32.
MAX_COUNT = 2**31 - 1


def seconds(name: str, value: float, *, above: float | None = None) -> float:
    """Returns a time: 0 or more, or above a bound; it may be infinite.

    Raises:
      UsageError: it is not.
    """
    number = _number(value)
    # A NaN compares false.
    if not (number >= 0 if above is None else number > above):
        expected = "0 or more" if above is None else f"above {above:g}"
        raise refused(name, value, f"seconds, {expected}")
    return number


def hertz(name: str, value: float) -> float:
    """Returns a rate: finite, and above 0.

    Raises:
      UsageError: it is not.
    """
    number = _number(value)
    if not 0 < number < math.inf:
        raise refused(name, value, "a finite rate above 0, in hertz")
    return number


def count(name: str, value: int, *, lowest: int, highest: int = MAX_COUNT) -> int:
    """Returns a count as a plain integer.

    Raises:
      UsageError: it is no integer, or out of its range.
    """
    expected = f"an integer from {lowest} to {highest}"
    try:
        number = operator.index(value)
    except TypeError:
        raise refused(name, value, expected) from None
    if not lowest <= number <= highest:
        raise refused(name, value, expected)
    return number


def text(name: str, value: str) -> str:
    """Returns a text.

    Raises:
      UsageError: it is no string, or has half of a surrogate pair, which UTF-8 has not.
    """
    try:
        value.encode()
    except (AttributeError, UnicodeEncodeError):
        raise refused(name, value, "a string") from None
    return value


def labels(value: Mapping[str, str] | None) -> dict[str, str]:
    """Returns labels as a plain dict.

    Raises:
      UsageError: a key or a value is no string.
    """
    if value is None:
        return {}
    try:
        items = dict(value).items()
    except (TypeError, ValueError):
        raise refused("labels", value, "a mapping of strings to strings") from None
    return {text("labels: key", key): text(f"labels[{key!r}]", each) for key, each in items}


def refused(name: str, got: object, expected: str) -> errors.UsageError:
    """Returns the error of an argument."""
    return errors.UsageError(f"{name}: got {got!r}, expected {expected}.")


def _number(value: float) -> float:
    """Returns a number as a float; NaN if it is none."""
    return float(value) if isinstance(value, numbers.Real) else math.nan

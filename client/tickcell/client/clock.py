"""The caller's clock: when each tick is due."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_Item = TypeVar("_Item")


@dataclasses.dataclass(frozen=True, slots=True)
class Clock:
    """A time in seconds that never jumps, and a way to wait.

    Attributes:
      now: gives the time.
      sleep: waits for a number of seconds.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep

    def wait_until(self, due: float) -> None:
        """Waits until a time, if it is still to come."""
        left_s = due - self.now()
        if left_s > 0:
            self.sleep(left_s)


def paced(items: Iterable[tuple[float, _Item]], clock: Clock) -> Iterator[tuple[float, _Item]]:
    """Yields each item at its time; the first at once.

    Whoever is late gets the overdue items one after another, so that the clock as a
    whole does not slip.

    Args:
      items: each with its time in seconds, from any zero.
      clock: to wait by.

    Yields:
      Each item with the time of the clock at which it was due.
    """
    offset_s: float | None = None
    for at, item in items:
        if offset_s is None:
            offset_s = clock.now() - at
        clock.wait_until(offset_s + at)
        yield offset_s + at, item

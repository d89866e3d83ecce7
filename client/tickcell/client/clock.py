"""The caller's clock: when each tick is due."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


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


def ticks(times: Iterable[float], clock: Clock) -> Iterator[float]:
    """Yields when each tick is due, once it is; the first is due at once.

    A caller who is late gets the ticks that are past one after another, so that the
    clock as a whole does not slip.

    Args:
      times: of the ticks, in seconds from any zero.
      clock: to wait by.
    """
    offset_s: float | None = None
    for at in times:
        if offset_s is None:
            offset_s = clock.now() - at
        clock.wait_until(offset_s + at)
        yield offset_s + at

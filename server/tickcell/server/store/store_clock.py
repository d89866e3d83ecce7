"""The store's own clock, by which idle time, retention and sweeps are measured.

The store keeps a count of nanoseconds and the moment at which it was kept, by the
kernel's monotonic clock. Each second the upkeep of each server adds what has passed
since, but no more than 2 s; between two, so does whoever asks. So the clock stands
still while no server keeps it up, be it stopped, off or cut off from the store, and
is the same for all that do. It also stands while a step found no room on the disk: what
nobody can renew must not end, though the clock's own few bytes may find room still.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

Monotonic = Callable[[], int]

# Of one upkeep: twice its period, so that a late one loses nothing.
_MOST_NS = 2_000_000_000


class Kept(NamedTuple):
    """What the store keeps of its clock.

    Attributes:
      now_ns: the time by the store's clock.
      at_ns: when it was kept, by the kernel's monotonic clock.
    """

    now_ns: int
    at_ns: int


class StoreClock:
    """One server's view of the clock; it never goes back but by `begin`."""

    def __init__(self, kept: Kept, monotonic_ns: Monotonic = time.monotonic_ns) -> None:
        self._monotonic_ns = monotonic_ns
        self.begin(kept)

    def begin(self, kept: Kept) -> None:
        """Begins from what the store has, whatever was before."""
        self.kept = kept
        # One value, since the upkeep moves it while others ask.
        self._view = _seen(kept, self._monotonic_ns())

    def now_ns(self) -> int:
        """Returns the time."""
        return _after(self._view, self._monotonic_ns())

    @property
    def stands_ns(self) -> int:
        """Where the clock stands once nobody has kept it for so long, as far as is known."""
        return self._view.now_ns + _MOST_NS

    def is_ahead_of(self, kept: Kept) -> bool:
        """Says whether the store has an earlier time than it had: it is an older store."""
        return kept.now_ns < self.kept.now_ns

    def follow(self, kept: Kept) -> None:
        """Takes over what another server has kept."""
        if kept != self.kept:
            at_ns = self._monotonic_ns()
            now_ns = max(_after(self._view, at_ns), _after(_seen(kept, at_ns), at_ns))
            self.kept = kept
            self._view = self._view._replace(now_ns=now_ns, at_ns=at_ns)

    def stand(self) -> None:
        """Lets no time pass from now on, until `go_on`."""
        self._view = _View(*self.next(), most_ns=0)

    def go_on(self) -> None:
        """Lets time pass again, from when it was kept last, if it stood since."""
        self._view = self._view._replace(most_ns=_MOST_NS)

    def next(self) -> Kept:
        """Returns what to keep now."""
        at_ns = self._monotonic_ns()
        return Kept(_after(self._view, at_ns), at_ns)

    def confirm(self, kept: Kept) -> None:
        """Takes note that the store has kept it."""
        self.kept = kept
        # One that came to stand meanwhile may be a little ahead.
        now_ns = max(kept.now_ns, self._view.now_ns)
        self._view = self._view._replace(now_ns=now_ns, at_ns=kept.at_ns)


class _View(NamedTuple):
    """A moment by the store's clock and by the kernel's, and the most that passes from then on."""

    now_ns: int
    at_ns: int
    most_ns: int = _MOST_NS


def _seen(kept: Kept, at_ns: int) -> _View:
    """Returns from when on the time counts."""
    # Anything else is no moment of a server that keeps the clock up: the machine was
    # off since, or the other's monotonic clock is not ours.
    is_recent = 0 <= at_ns - kept.at_ns <= _MOST_NS
    return _View(kept.now_ns, kept.at_ns if is_recent else at_ns)


def _after(view: _View, at_ns: int) -> int:
    now_ns, since_ns, most_ns = view
    passed_ns = at_ns - since_ns
    return now_ns + (passed_ns if passed_ns < most_ns else most_ns)

"""What each owner may take: its sessions, and its ticks a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tickcell.server import errors
from tickcell.server.owners import Owners

if TYPE_CHECKING:
    from tickcell.server.rules import StepRequest

# So much of its rate may an owner take at once, after it has taken nothing for as long.
_BURST_S = 1.0
_READING_BYTES = 4
# Owners that are remembered before those are forgotten that have taken nothing of late.
_FIRST_PRUNE = 1024


class Quotas:
    """Holds owners to their limits.

    A tick is a step, whatever its series; one that is sent again counts again. A request is
    taken whole or not at all: where it is longer than what is left, the next waits for longer.

    Attributes:
      have_rates: whether any owner's ticks are limited; where not, `take` need not be called.
    """

    def __init__(
        self, owners: Owners | None = None, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic_s = monotonic_s
        # By owner, until when its ticks are spent at its rate; nothing for those who are even.
        self._spent_until_s: dict[str, float] = {}
        self._prune_at = _FIRST_PRUNE
        self.follow(owners or Owners())

    @property
    def remembered_count(self) -> int:
        """The number of owners of whom it is remembered what they have taken."""
        return len(self._spent_until_s)

    def follow(self, owners: Owners) -> None:
        """Holds owners to other limits from now on."""
        self._owners = owners
        self.have_rates = owners.have_rates

    def max_sessions(self, owner: str) -> int | None:
        """Returns how many sessions of an owner may be alive; None for as many as there may be."""
        return self._owners.limits(owner).max_sessions

    def take(self, request: StepRequest) -> None:
        """Takes a request's ticks from its owner's.

        Raises:
          OwnerRateExceeded: there is nothing left of them for now.
        """
        owner = request.key.owner
        rate = self._owners.limits(owner).max_ticks_per_s
        if rate is None:
            return
        now_s = self._monotonic_s()
        until_s = max(now_s, self._spent_until_s.get(owner, now_s))
        wait_s = until_s - now_s - _BURST_S
        if wait_s > 0:
            raise _exceeded(request, rate, wait_s)
        # What a request claims is checked later: it has no more steps than readings.
        ticks = max(0, min(request.step_count, len(request.frames) // _READING_BYTES))
        self._spent_until_s[owner] = until_s + ticks / rate
        if len(self._spent_until_s) > self._prune_at:
            self._prune(now_s)

    def _prune(self, now_s: float) -> None:
        self._spent_until_s = {
            owner: until_s for owner, until_s in self._spent_until_s.items() if until_s > now_s
        }
        self._prune_at = max(_FIRST_PRUNE, 2 * len(self._spent_until_s))


def _exceeded(request: StepRequest, rate: float, wait_s: float) -> errors.OwnerRateExceeded:
    retry_s = round(wait_s, 3) + 0.001
    error = errors.OwnerRateExceeded(
        f"{request.session}: nothing was applied: the sessions of owner {request.key.owner!r} take "
        f"more than {rate:g} ticks a second; send it again after {retry_s:g} s.",
        session=request.session,
        owner=request.key.owner,
        max_ticks_per_s=f"{rate:g}",
        retry_s=f"{retry_s:g}",
    )
    error.retry_s = retry_s
    return error

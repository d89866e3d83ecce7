"""How long a round waits for more requests: as long as they keep arriving."""

from __future__ import annotations

# gRPC hands over a message in about two turns of the event loop. A turn with nothing to do takes
# some ten microseconds.
_QUIET_TURNS = 2
_MOST_TURNS = 8


class Gathering:
    """A round that is about to begin.

    A larger round takes less for each of its requests: one commit, one call of the cell, and
    code that the processor has at hand. While many streams are busy, requests come a few turns
    apart, and a round that began with the first would leave the next ones for another.
    """

    def __init__(self) -> None:
        self._count = 0
        self._turns = 0
        self._quiet_turns = 0

    def goes_on(self, count: int) -> bool:
        """Says whether to wait for another turn; if not, the next round is about to begin.

        Args:
          count: of requests that have arrived by now.
        """
        self._turns += 1
        self._quiet_turns = self._quiet_turns + 1 if count == self._count else 0
        self._count = count
        if self._turns <= _MOST_TURNS and self._quiet_turns < _QUIET_TURNS:
            return True
        self._count = self._turns = self._quiet_turns = 0
        return False

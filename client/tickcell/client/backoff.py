"""What follows a failed try: wait and try again, or give up; pure but for a clock."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from tickcell.client import errors

if TYPE_CHECKING:
    from collections.abc import Callable

# gRPC's own back-off grows to two minutes, in which a robot drives two kilometres.
FIRST_DELAY_S = 0.05
LAST_DELAY_S = 2.0

# How long the server may be away while a clock goes on: a restart, a change of
# batteries, a tunnel.
BACKLOG_S = 600.0

# Whoever waits for less sees the end of it soon enough.
_WORTH_A_NOTE_S = 5.0

_log = logging.getLogger("tickcell.client")


class Backoff:
    """Decides what follows each failure, by the time since the server last answered."""

    def __init__(
        self,
        address: str,
        retry_for_s: float | None,
        clock: Callable[[], float] = time.monotonic,
        server_count: int = 1,
    ) -> None:
        """Begins with no failure.

        Args:
          address: of the server, or of all that may be asked, for the texts.
          retry_for_s: for how long to try again after the first failure; None for ever.
          clock: gives a time in seconds that never jumps.
          server_count: how many servers may be asked, one after another.
        """
        self._address = address
        self._server_count = server_count
        self._retry_for_s = retry_for_s
        self._clock = clock
        # Since when the server has not answered; None if it did.
        self._since: float | None = None
        self._delay_s = FIRST_DELAY_S
        # What each of the servers said since the last delay.
        self._round: list[errors.TickcellError] = []

    def after(self, error: errors.TickcellError) -> float:
        """Counts a failure, and returns how long to wait before the same is tried again.

        Another server that may answer is asked at once, until all were; what does not pass
        ends it then, unless one of them may answer later. Each delay doubles the one before,
        and is no shorter than a server asks for; the last try is at the very end of the time.

        Raises:
          RefusedError, CallError: trying again does not help, or it did not in time.
          UnavailableError: the outcome is unknown and the time is over.
        """
        self._round.append(error)
        if error.elsewhere and len(self._round) < self._server_count:
            self._begin(error)
            return 0.0
        tried, self._round = self._round, []
        if not (error.may_pass or (error.elsewhere and any(each.may_pass for each in tried))):
            if isinstance(error, errors.RefusedError):
                # So it answers: where the steps behind go on, their failures count anew.
                self.answered()
            raise error
        self._begin(error)
        assert self._since is not None
        waited_s = self._clock() - self._since
        left_s = None if self._retry_for_s is None else self._retry_for_s - waited_s
        if left_s is not None and left_s <= 0:
            if not any(isinstance(each, errors.LostError) for each in tried):
                raise error
            said = "; ".join(map(str, tried))
            raise errors.UnavailableError(
                f"{self._address}: no answer for {waited_s:.3g} s ({said}); whether the last "
                "request was applied is unknown, and sending it again is safe."
            ) from error
        delay_s = max(self._delay_s, *map(_asked_s, tried))
        self._delay_s = min(2 * self._delay_s, LAST_DELAY_S)
        return delay_s if left_s is None else min(delay_s, left_s)

    def answered(self) -> None:
        """Counts an answer: the next failure is a first one."""
        if self._since is not None:
            waited_s = self._clock() - self._since
            _log.warning("%s: answers again after %.1f s", self._address, waited_s)
            self._since = None
            self._delay_s = FIRST_DELAY_S
            self._round = []

    def _begin(self, error: errors.TickcellError) -> None:
        """Takes a failure as the first one, if it is."""
        if self._since is not None:
            return
        self._since = self._clock()
        how_long = ""
        if self._retry_for_s is not None:
            if self._retry_for_s < _WORTH_A_NOTE_S:
                return
            how_long = f" for {self._retry_for_s:g} s"
        _log.warning("%s: %s; trying again%s", self._address, error, how_long)


def _asked_s(error: errors.TickcellError) -> float:
    """Returns how long a server asks to wait."""
    return (error.retry_s or 0.0) if isinstance(error, errors.RefusedError) else 0.0

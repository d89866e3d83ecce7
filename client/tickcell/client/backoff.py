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
        # Failures after which another server may answer, since one did.
        self._elsewhere_count = 0
        self._retry_for_s = retry_for_s
        self._clock = clock
        # Since when the server has not answered; None if it did.
        self._since: float | None = None
        self._delay_s = FIRST_DELAY_S
        # The longest that one of the servers asked for, since the last delay.
        self._asked_s = 0.0

    def after(self, error: errors.TickcellError) -> float:
        """Counts a failure, and returns how long to wait before the same is tried again.

        Another server that may answer is asked at once, until all were. Each delay doubles
        the one before, and is no shorter than a server asks for; the last try is at the very
        end of the time.

        Raises:
          RefusedError, CallError: trying again does not help, or it did not in time.
          UnavailableError: the outcome is unknown and the time is over.
        """
        is_lost = isinstance(error, errors.LostError)
        if not is_lost and not _may_pass(error):
            raise error
        if self._since is None:
            self._since = self._clock()
            self._note_failure(error)
        if isinstance(error, errors.RefusedError) and error.retry_s is not None:
            self._asked_s = max(self._asked_s, error.retry_s)
        if error.elsewhere:
            self._elsewhere_count += 1
            if self._elsewhere_count % self._server_count:
                return 0.0
        waited_s = self._clock() - self._since
        left_s = None if self._retry_for_s is None else self._retry_for_s - waited_s
        if left_s is not None and left_s <= 0:
            if not is_lost:
                raise error
            raise errors.UnavailableError(
                f"{self._address}: no answer for {waited_s:.3g} s ({error}); whether the last "
                "request was applied is unknown, and sending it again is safe."
            ) from error
        delay_s = max(self._delay_s, self._asked_s)
        self._delay_s = min(2 * self._delay_s, LAST_DELAY_S)
        self._asked_s = 0.0
        return delay_s if left_s is None else min(delay_s, left_s)

    def answered(self) -> None:
        """Counts an answer: the next failure is a first one."""
        if self._since is not None:
            waited_s = self._clock() - self._since
            _log.warning("%s: answers again after %.1f s", self._address, waited_s)
            self._since = None
            self._delay_s = FIRST_DELAY_S
            self._asked_s = 0.0
            self._elsewhere_count = 0

    def _note_failure(self, error: errors.TickcellError) -> None:
        how_long = ""
        if self._retry_for_s is not None:
            if self._retry_for_s < _WORTH_A_NOTE_S:
                return
            how_long = f" for {self._retry_for_s:g} s"
        _log.warning("%s: %s; trying again%s", self._address, error, how_long)


def _may_pass(error: errors.TickcellError) -> bool:
    if isinstance(error, errors.StoreDiffersError):
        return True
    return isinstance(error, errors.RefusedError) and error.may_pass

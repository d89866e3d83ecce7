"""When a stream of single steps is given up; pure."""

from __future__ import annotations

from tickcell.client import errors

# How long a stream may be idle.
IDLE_S = 5.0


class Due:
    """When a stream is given up: its reply is overdue, or it has been idle for too long.

    Attributes:
      at: the time at which it is, as things stand.
      is_over: whether it was, or was dropped.
    """

    __slots__ = ("_deadline_s", "_is_overdue", "_is_owed", "at", "is_over")

    def __init__(self, deadline_s: float, now: float) -> None:
        """Begins idle."""
        self._deadline_s = deadline_s
        self._is_owed = self._is_overdue = False
        self.at = now + IDLE_S
        self.is_over = False

    def begin(self, now: float) -> None:
        """Takes that a reply is owed from now on."""
        self._is_owed = True
        self.at = now + self._deadline_s

    def end(self, now: float) -> None:
        """Takes that the reply has come."""
        self.at = now + IDLE_S
        self._is_owed = False

    def look(self, now: float) -> bool:
        """Returns whether the stream is over, which it is for good once it was."""
        if not self.is_over and self.at <= now:
            self._is_overdue = self._is_owed
            self.is_over = True
        return self.is_over

    def failure(self) -> errors.LostError:
        """Returns the failure of a request that waited when the stream was given up."""
        if not self._is_overdue:
            return ended()
        return errors.LostError(f"no reply for {self._deadline_s:g} s", "DEADLINE_EXCEEDED")


def ended() -> errors.LostError:
    """Returns the failure of a request on a stream that has ended without a reason."""
    return errors.LostError("the stream has ended", "OK")

"""By which call a session's next step goes: by a stream of its own, or by a unary one.

A turn of a stream costs less, but a stream holds one of the server's places. So a session
has one while it steps on and on: from its second step until it has been idle for a while.
Where the server has no place left, unary calls it is, which need none.

Each step goes by the stream once. Whatever ends the stream, a unary call follows, and it is
that whose failure counts: a stream that ended while nobody asked for anything is no news.

No I/O (see `needs`), and no clock. Ctrl-C may strike anywhere: a stream that owes a reply,
or may owe one, is never used again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from tickcell.client import errors
from tickcell.client.needs import Exchange, Open

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from tickcell.client.connection import Connection
    from tickcell.client.needs import Operation

# How long a stream may be idle.
IDLE_S = 5.0
# For how long a server that had no place is not asked for one again.
FULL_S = 30.0


class TurnStream(Protocol):
    """An open stream on which each request waits for the reply to the one before.

    Attributes:
      connection: the one that it is on.
    """

    connection: Connection

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or was idle for too long."""

    def exchange(self, request: Message) -> Any:
        """Sends a request; gives the reply to it, or what is awaited for that.

        Raises:
          LostError: there was none in time, or the stream broke off.
          RefusedError: the server ended the stream for this.
        """

    def failure(self) -> errors.LostError:
        """Returns the failure of a request that waited when the stream was given up."""

    def drop(self) -> None:
        """Ends it, and waits for nothing; once more is nothing."""


class Turns:
    """The stream of one session's single steps, if there is one now."""

    def __init__(self, session: str) -> None:
        """Begins with none."""
        self._session = session
        self._stream: TurnStream | None = None
        self._may_owe = False
        self._stepped_at = self._full_until = -math.inf

    def exchange(self, connection: Connection, request: Message, now: float) -> Operation[Any]:
        """Sends a step by the stream; None where a unary call is to be made.

        Returns:
          The reply, which must be told to `answered` once it is seen to be the right one.

        Raises:
          LostError: there was no reply in time.
        """
        is_brisk = now - self._stepped_at < IDLE_S
        self._stepped_at = now
        stream = self._stream
        if stream is not None and not (
            is_brisk and stream.connection is connection and not (self._may_owe or stream.is_over)
        ):
            self.drop()
            stream = None
        # How long connecting takes is for unary calls to see.
        if not is_brisk or now < self._full_until or not connection.has_answered:
            return None
        self._may_owe = True
        try:
            if stream is None:
                stream = self._stream = yield Open(connection, self._session)
            return (yield Exchange(stream, request))
        except errors.StreamsFullError:
            self._full_until = now + FULL_S
            self.drop()
        except errors.TickcellError as error:
            self.drop()
            if isinstance(error, errors.CallError) and error.code == "DEADLINE_EXCEEDED":
                raise
        except BaseException:
            self.drop()
            raise
        return None

    def answered(self) -> None:
        """Takes that the stream owes nothing."""
        self._may_owe = False

    def drop(self) -> None:
        """Ends the stream, if there is one."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.drop()


class Due:
    """When a stream is given up: its reply is overdue, or it has been idle for too long.

    Attributes:
      at: the time at which it is, as things stand.
      is_over: whether it was.
      is_overdue: whether that was for a reply.
    """

    __slots__ = ("_deadline_s", "_is_owed", "at", "is_over", "is_overdue")

    def __init__(self, deadline_s: float, now: float) -> None:
        """Begins idle."""
        self._deadline_s = deadline_s
        self._is_owed = False
        self.at = now + IDLE_S
        self.is_over = self.is_overdue = False

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
            self.is_over, self.is_overdue = True, self._is_owed
        return self.is_over

    def failure(self) -> errors.LostError:
        """Returns the failure of a request that waited when the stream was given up."""
        if not self.is_overdue:
            return ended()
        return errors.LostError(f"no reply for {self._deadline_s:g} s", "DEADLINE_EXCEEDED")


def ended() -> errors.LostError:
    """Returns the failure of a request on a stream that has ended without a reason."""
    return errors.LostError("the stream has ended", "OK")

"""How a session's single steps go out: by a stream of its own, or by unary calls.

A turn of a stream costs less, but a stream holds one of the server's places. So a session
has one while it steps on and on: from its second step until it has been idle for a while.
Where the server has no place left, unary calls it is, which need none.

Each request goes by the stream once. Where that ends, a unary call follows, and it is that
whose failure counts: a stream that ended while nobody asked for anything is no news.

No I/O (see `needs`). Ctrl-C may strike anywhere: a stream that owes a reply, or may owe
one, is never used again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from tickcell import wire
from tickcell.client import errors, grpc_errors, unary_calls
from tickcell.client.due import IDLE_S
from tickcell.client.needs import Exchange, OpenTurns
from tickcell.client.route import Failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from tickcell.client.connection import Connection
    from tickcell.client.life import Chunk, Life
    from tickcell.client.needs import Operation
    from tickcell.client.route import Route

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
        """Whether it was given up."""

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
    """Sends the steps of one session, one request after the other."""

    def __init__(self, route: Route, clock: Callable[[], float]) -> None:
        """Begins without a stream.

        Args:
          route: the way to the session's servers.
          clock: gives a time in seconds that never jumps.
        """
        self._route = route
        self._clock = clock
        self._stream: TurnStream | None = None
        self._may_owe = False
        self._asked_at = self._full_until = -math.inf

    def exchange(self, life: Life, chunk: Chunk) -> Operation[tuple[bytes, bytes]]:
        """Sends steps until they are answered.

        Returns:
          The outputs, `[T, B, O]` float32, little-endian, and the history after them.

        Raises:
          RefusedError: the steps were refused.
          ReplyError: the reply is to something else.
          TickcellError: as `Route.call`.
        """
        now = self._clock()
        is_brisk = now - self._asked_at < IDLE_S
        self._asked_at = now
        stream = self._stream
        if stream is not None and (
            self._may_owe or not is_brisk or stream.is_over or stream.connection.is_closed
        ):
            self.drop()
            stream = None
        if stream is None and is_brisk and now >= self._full_until:
            connection = self._route.connection()
            # How long connecting takes is for unary calls to see.
            if connection.has_answered:
                stream = self._stream = yield OpenTurns(connection, life.session)
        failed = None
        if stream is not None:
            self._may_owe = True
            try:
                reply = yield Exchange(stream, life.request(wire.StreamStepsRequest, chunk))
                if not reply.HasField("error"):
                    outputs = life.outputs(reply, chunk)
                    self._may_owe = False
                    return outputs, reply.history
            except errors.ReplyError:
                self.drop()
                raise
            except errors.TickcellError as failure:
                self.drop()
                failed = self._failed(stream, failure, now)
            except BaseException:
                self.drop()
                raise
            else:
                self._may_owe = False
                failed = Failed(stream.connection, grpc_errors.from_reply(reply))
        return (yield from unary_calls.step_session(self._route, life, chunk, failed))

    def drop(self) -> None:
        """Ends the stream, if there is one."""
        stream, self._stream, self._may_owe = self._stream, None, False
        if stream is not None:
            stream.drop()

    def _failed(
        self, stream: TurnStream, failure: errors.TickcellError, now: float
    ) -> Failed | None:
        """Returns what counts of a stream's end: nothing, but for a reply that was overdue."""
        if isinstance(failure, errors.StreamsFullError):
            self._full_until = now + FULL_S
        is_overdue = isinstance(failure, errors.CallError) and failure.code == "DEADLINE_EXCEEDED"
        return Failed(stream.connection, failure) if is_overdue else None

"""How a session's steps are sent chunk by chunk: by a stream of its own, or by unary calls.

A request on a stream costs less, but the server allows a limited number of streams. So a
session has one from its second step until it has been idle for a while. If the server has
no stream left, the session uses unary calls.

Each request is sent on the stream once. If the stream ends, a unary call follows, and only
its failure counts: a stream that ended while the session was idle is not an error.

On a stream, one request may be sent ahead, while the previous reply is awaited.

No I/O (see `needs`). Ctrl-C may interrupt anywhere: a stream that may still owe a reply is
never used again.
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
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message

    from tickcell.client.connection import Connection
    from tickcell.client.life import Chunk, Life
    from tickcell.client.needs import Operation
    from tickcell.client.route import Route

# For how long a server that had no place is not asked for one again.
FULL_S = 30.0


class TurnStream(Protocol):
    """An open stream, on which replies come in the order of the requests.

    Attributes:
      connection: the one that it is on.
    """

    connection: Connection

    @property
    def is_over(self) -> bool:
        """Whether it was given up."""

    def exchange(self, requests: Sequence[Message], meanwhile: Callable[[], object]) -> Any:
        """Sends requests; gives the reply to the oldest without one, or what is awaited for it.

        Args:
          requests: in order.
          meanwhile: is called once they are on their way.

        Raises:
          LostError: there was none in time, or the stream broke off.
          RefusedError: the server ended the stream for this.
        """

    def failure(self) -> errors.LostError:
        """Returns the failure of a request that waited when the stream was given up."""

    def drop(self) -> None:
        """Ends it, and waits for nothing; once more is nothing."""


class Turns:
    """Sends the steps of one session, one request after the other, and one ahead."""

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
        # What was sent ahead on the stream, and is the next to be asked for.
        self._ahead: Chunk | None = None
        self._asked_at = self._full_until = -math.inf

    def exchange(
        self, life: Life, chunk: Chunk, following: Chunk | None = None
    ) -> Operation[tuple[bytes, bytes]]:
        """Sends steps until they are answered.

        Args:
          life: of the session.
          chunk: the steps; what was `following` the time before is on its way already.
          following: what is sent ahead, if that can be; it names the history before it, so
            that it is never applied behind other steps. None for nothing.

        Returns:
          The outputs, `[T, B, O]` float32, little-endian, and the history after them.

        Raises:
          RefusedError: the steps were refused.
          ReplyError: the reply is to something else.
          TickcellError: as `Route.call`.
        """
        now = self._clock()
        is_brisk = chunk is self._ahead or now - self._asked_at < IDLE_S
        self._asked_at = now
        stream = self._usable(chunk, is_brisk=is_brisk)
        failed = None
        try:
            if stream is None and is_brisk and now >= self._full_until:
                connection = self._route.connection()
                # How long connecting takes is for unary calls to see.
                if connection.has_answered:
                    stream = self._stream = yield OpenTurns(connection, life.session)
            if stream is not None:
                due = [] if chunk is self._ahead else [chunk]
                if following is not None:
                    due.append(following)
                self._may_owe, self._ahead = True, following
                kind = wire.StreamStepsRequest
                requests = [life.request(kind, each) for each in due]
                reply = yield Exchange(stream, requests, lambda: chunk.histories)
                if not reply.HasField("error"):
                    outputs = life.outputs(reply, chunk)
                    self._may_owe = following is not None
                    return outputs, reply.history
                if following is not None:
                    # It is refused likewise, and none of it is on its way after that.
                    yield Exchange(stream, (), lambda: None)
                self._may_owe, self._ahead = False, None
                failed = Failed(stream.connection, grpc_errors.from_reply(reply))
        except errors.ReplyError:
            self.drop()
            raise
        except errors.TickcellError as failure:
            self.drop()
            failed = self._failed(stream, failure, now)
        except BaseException:
            self.drop()
            raise
        return (yield from unary_calls.step_session(self._route, life, chunk, failed))

    def _usable(self, chunk: Chunk, *, is_brisk: bool) -> TurnStream | None:
        """Returns the stream that was opened before, if a chunk may go by it, or has gone."""
        stream = self._stream
        may_owe_another = self._may_owe and chunk is not self._ahead
        if stream is not None and (
            may_owe_another or not is_brisk or stream.is_over or stream.connection.is_closed
        ):
            self.drop()
            return None
        return stream

    def drop(self) -> None:
        """Ends the stream, if there is one."""
        stream, self._stream, self._may_owe = self._stream, None, False
        self._ahead = None
        if stream is not None:
            stream.drop()

    def _failed(
        self, stream: TurnStream | None, failure: errors.TickcellError, now: float
    ) -> Failed | None:
        """Returns what counts of a stream's end: nothing, but for a reply that was overdue."""
        if isinstance(failure, errors.StreamsFullError):
            self._full_until = now + FULL_S
        is_overdue = isinstance(failure, errors.CallError) and failure.code == "DEADLINE_EXCEEDED"
        return Failed(stream.connection, failure) if stream is not None and is_overdue else None

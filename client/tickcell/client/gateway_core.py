"""Steps of many sessions in one message: whose go out, go out again, and what each has; no I/O.

Each session steps by its own operation, as it would by itself: with its own place, history
and recall. What differs is how a request goes out: it is laid into the gateway's next
message, beside those of the others. So a store that is put back, or readings that drop out,
are for each session what they are in a `Session`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tickcell import wire
from tickcell.client import errors, grpc_errors, methods
from tickcell.client.needs import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from tickcell.client.connection import Connection
    from tickcell.client.life import Chunk, Life
    from tickcell.client.needs import Operation
    from tickcell.client.route import Route
    from tickcell.client.session_core import SessionCore

    # What became of one session's step.
    Result = NDArray[np.float32] | errors.TickcellError

# Of a message that a server refuses since it holds too much, the metadata names this field.
_REQUESTS = "requests"


class GatewayTurns:
    """Sends a session's steps in a gateway's messages; as `Turns` does by itself."""

    def __init__(self, route: Route) -> None:
        self._route = route

    def exchange(
        self, life: Life, chunk: Chunk, following: Chunk | None = None
    ) -> Operation[tuple[bytes, bytes]]:
        """Sends steps until they are answered, and nothing ahead.

        A refusal is an answer, which the others need not wait for: only where another server
        may have a better one, each is asked once.

        Raises:
          TickcellError: the steps were refused, or the message has no answer.
        """
        del following
        request = life.request(wire.StreamStepsRequest, chunk)
        for _ in range(self._route.server_count):
            connection, reply = yield Entry(request)
            try:
                if reply.HasField("error"):
                    raise grpc_errors.from_reply(reply)
                return life.outputs(reply, chunk), reply.history
            except errors.TickcellError as error:
                failure = yield from self._route.judged(connection, error)
            if not failure.elsewhere:
                break
            yield from self._route.failed(connection, failure)
        raise failure


class GatewayCore:
    """Steps several sessions at once.

    Attributes:
      route: the way to the servers, for all of them.
      sessions: by their ids.
    """

    def __init__(self, route: Route) -> None:
        self.route = route
        self.sessions: dict[str, SessionCore] = {}
        self._turns = GatewayTurns(route)
        # The most requests in one message, as far as is known.
        self._most: int | None = None

    def step(self, frames: Mapping[str, ArrayLike]) -> Operation[dict[str, Result]]:
        """Advances sessions by one frame each.

        Args:
          frames: by the ids of those that are to be stepped.

        Returns:
          The outputs of each, or why it has none; in the frames' order.

        Raises:
          UsageError: a session is none of the gateway's, or cannot be stepped now; nothing
            was sent.
        """
        sessions = self.sessions
        for session in frames:
            if session not in sessions:
                raise errors.UsageError(
                    f"{session}: is not a session of this gateway; create it, or attach to it."
                )
            sessions[session].check_open()
        runs = {
            session: sessions[session].step(frame, self._turns) for session, frame in frames.items()
        }
        places = {session: sessions[session].place for session in frames}
        results: dict[str, Result] = {}
        try:
            came: dict[str, Any] = dict.fromkeys(runs)
            while came:
                entries = {}
                for session, each in came.items():
                    found = yield from _next_entry(runs[session], each)
                    if isinstance(found, Entry):
                        entries[session] = found
                    else:
                        results[session] = found
                came = yield from self._send(entries)
        except BaseException:
            # The caller gets none of the outputs: those who have theirs go back.
            for session in results:
                sessions[session].go_back(places[session])
            raise
        finally:
            for run in runs.values():
                run.close()
        return {session: results[session] for session in frames}

    def _send(self, entries: dict[str, Entry]) -> Operation[dict[str, Any]]:
        """Sends requests in as few messages as a server takes.

        Returns:
          By session, the connection and the reply, or why there is none.
        """
        came: dict[str, Any] = {}
        left = [*entries]
        while left:
            some = left[: self._most]
            encoded = [entries[session].request.SerializeToString() for session in some]
            message = wire.StepSessionsRequest(requests=encoded)
            try:
                response = yield from self.route.call(methods.STEP_SESSIONS, message)
            except errors.ArgumentInvalidError as error:
                if error.metadata.get("field") == _REQUESTS and len(some) > 1:
                    # Nothing was applied: half of them is another message.
                    self._most = len(some) // 2
                    continue
                came |= dict.fromkeys(some, error)
            except errors.TickcellError as error:
                came |= dict.fromkeys(some, error)
            else:
                # The one that has answered is the one that is asked.
                came |= zip(
                    some, _replies(self.route.connection(), response, len(some)), strict=True
                )
            left = left[len(some) :]
        return came


def _replies(connection: Connection, response: Any, count: int) -> list[Any]:
    """Returns what answers each request of a message: connection and reply, or an error."""
    if len(response.responses) != count:
        error = errors.ReplyError(
            f"{connection.address}: got {len(response.responses)} responses to {count} requests."
        )
        return [error] * count
    return [(connection, methods.STREAM_STEPS.decode(each)) for each in response.responses]


def _next_entry(run: Operation[NDArray[np.float32]], came: Any) -> Operation[Entry | Result]:
    """Goes on with a session's step to its next request for a message, or to its end."""
    while True:
        try:
            need = run.throw(came) if isinstance(came, errors.TickcellError) else run.send(came)
        except StopIteration as over:
            outputs: NDArray[np.float32] = over.value
            return outputs
        except errors.TickcellError as error:
            return error
        if isinstance(need, Entry):
            return need
        try:
            came = yield need
        except errors.TickcellError as error:
            came = error

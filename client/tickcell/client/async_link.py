"""The way to the servers of a store with asyncio: does what `Route` decides."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from tickcell.client import grpc_errors
from tickcell.client.async_step_stream import AsyncStepStream
from tickcell.client.needs import Call, Close, Exchange, OpenTurns, Wait
from tickcell.client.route import DEADLINE_S, RETRY_FOR_S, Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from tickcell.client import errors
    from tickcell.client.connection import Connection
    from tickcell.client.credentials import Credentials
    from tickcell.client.needs import StreamNeed, StreamOperation

_T = TypeVar("_T")


class AsyncLink:
    """A route, and what is done about it: calls and waits are awaited.

    Of one event loop: the one that runs when the first call is made.

    Attributes:
      route: decides.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        session: str = "",
        credentials: Credentials | None = None,
        deadline_s: float = DEADLINE_S,
        retry_for_s: float | None = RETRY_FOR_S,
    ) -> None:
        """Prepares a connection; the first call makes it.

        Args and errors: those of `Route`.
        """
        self.route = Route(
            grpc.aio,
            address,
            session=session,
            credentials=credentials,
            deadline_s=deadline_s,
            retry_for_s=retry_for_s,
        )

    def with_patience(self, retry_for_s: float | None) -> AsyncLink:
        """Returns a link by the same connections that tries again for another time."""
        link = AsyncLink.__new__(AsyncLink)
        link.route = self.route.with_patience(retry_for_s)
        return link

    async def run(
        self,
        operation: StreamOperation[_T],
        meet: Callable[[Any], Awaitable[Any]] | None = None,
    ) -> _T:
        """Does what an operation needs until it is over; returns what it returns.

        A task that is cancelled throws that into the operation, like any failure.

        Args:
          operation: the operation.
          meet: does what is needed; by default `meet`.
        """
        meet = meet or self.meet
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        try:
            need = next(operation)
            while True:
                try:
                    came = await meet(need)
                except asyncio.CancelledError as cancelled:
                    # gRPC's word, too, for a call that was ended here, such as one that is
                    # overdue, or whose connection another task has given up.
                    is_cancelled = task.cancelling() > cancelling
                    need = operation.throw((None if is_cancelled else _ended(need)) or cancelled)
                except BaseException as failure:  # noqa: BLE001 - the operation's to judge
                    need = operation.throw(failure)
                else:
                    need = operation.send(came)
        except StopIteration as over:
            returned: _T = over.value
            return returned
        finally:
            operation.close()

    async def close(self) -> None:
        """Closes the connections, which ends their calls; another call makes a new one."""
        await self.run(self.route.close())

    def meet(self, need: StreamNeed) -> Awaitable[Any]:
        """Does what is needed.

        Raises:
          TickcellError: a call failed.
        """
        # The need of every step goes by no coroutine that it can do without.
        if isinstance(need, Exchange):
            exchanged: Awaitable[Any] = need.stream.exchange(need.requests, need.meanwhile)
            return exchanged
        return self._meet(need)

    async def _meet(self, need: StreamNeed) -> Any:
        match need:
            case Call(connection, method, request, timeout_s):
                with _closed_as_lost(connection):
                    return await connection.call(method, request, timeout_s)
            case OpenTurns(connection, session):
                with _closed_as_lost(connection):
                    return AsyncStepStream(connection, session, self.route.deadline_s)
            case Wait(delay_s):
                return await asyncio.sleep(delay_s)
            case Close(connection):
                return await connection.close()


def _ended(need: StreamNeed) -> errors.TickcellError | None:
    """Returns why a call was ended here; None if it was not."""
    if isinstance(need, Exchange) and need.stream.is_over:
        return need.stream.failure()
    if isinstance(need, Call | Exchange):
        connection = need.stream.connection if isinstance(need, Exchange) else need.connection
        return grpc_errors.closed() if connection.is_closed else None
    return None


@contextlib.contextmanager
def _closed_as_lost(connection: Connection) -> Iterator[None]:
    """Raises gRPC's failures as ours, that of a connection which another task closes too."""
    try:
        yield
    except grpc.RpcError as error:
        raise grpc_errors.from_call(error) from None
    except grpc.aio.UsageError:
        if not connection.is_closed:
            raise
        raise grpc_errors.closed() from None

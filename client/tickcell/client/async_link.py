"""The way to the servers of a store with asyncio: does what `Route` decides."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from tickcell.client import grpc_errors
from tickcell.client.needs import Call, Close, Need, Wait
from tickcell.client.route import DEADLINE_S, RETRY_FOR_S, Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.client.credentials import Credentials
    from tickcell.client.needs import Operation

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

    async def run(self, operation: Operation[_T]) -> _T:
        """Does what an operation needs until it is over; returns what it returns.

        A task that is cancelled throws that into the operation, like any failure.
        """
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        try:
            need = next(operation)
            while True:
                try:
                    came = await _meet(need)
                except asyncio.CancelledError as cancelled:
                    # gRPC's word for a call that was ended here, too, as by another task that
                    # has given its connection up.
                    is_ours = isinstance(need, Call) and need.connection.is_closed
                    if is_ours and task.cancelling() == cancelling:
                        need = operation.throw(grpc_errors.closed())
                    else:
                        need = operation.throw(cancelled)
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


async def _meet(need: Need) -> Any:
    """Does what is needed.

    Raises:
      TickcellError: a call failed.
    """
    match need:
        case Call(connection, method, request, timeout_s):
            try:
                return await connection.call(method, request, timeout_s)
            except grpc.RpcError as error:
                raise grpc_errors.from_call(error) from None
            except grpc.aio.UsageError:
                if not connection.is_closed:
                    raise
                raise grpc_errors.closed() from None
        case Wait(delay_s):
            return await asyncio.sleep(delay_s)
        case Close(connection):
            return await connection.close()

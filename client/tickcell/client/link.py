"""The way to the servers of a store with threads: does what `Route` decides."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import grpc

from tickcell.client import at_exit, grpc_errors
from tickcell.client.needs import Call, Close, Exchange, OpenTurns, Wait
from tickcell.client.route import DEADLINE_S, RETRY_FOR_S, Route
from tickcell.client.step_stream import StepStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tickcell.client.backoff import Backoff
    from tickcell.client.connection import Connection
    from tickcell.client.credentials import Credentials
    from tickcell.client.needs import Operation, StreamNeed, StreamOperation

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Link:
    """A route, and what is done about it: calls block, and so do waits.

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
        self._begin(
            Route(
                grpc,
                address,
                session=session,
                credentials=credentials,
                deadline_s=deadline_s,
                retry_for_s=retry_for_s,
            )
        )

    def _begin(self, route: Route) -> None:
        self.route = route
        self._owner = at_exit.Owner(self)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Of the servers, with commas between them."""
        return self.route.address

    @property
    def deadline_s(self) -> float:
        """How long one try of a call may take; infinite for no deadline."""
        return self.route.deadline_s

    def backoff(self) -> Backoff:
        """Returns what decides about the failures of one call, or of one stream after another."""
        return self.route.backoff()

    def beside(self, *, retry_for_s: float | None) -> Link:
        """Returns a link with connections of its own, which asks the same server."""
        link = Link.__new__(Link)
        link._begin(self.route.beside(retry_for_s=retry_for_s))
        return link

    def do(
        self,
        operation: Callable[Concatenate[Route, _P], Operation[_T]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Does an operation on this route, such as those of `unary_calls`."""
        return self.run(operation(self.route, *args, **kwargs))

    def run(self, operation: StreamOperation[_T], meet: Callable[[Any], Any] | None = None) -> _T:
        """Does what an operation needs until it is over; returns what it returns.

        Args:
          operation: the operation.
          meet: does what is needed; by default `meet`.
        """
        meet = meet or self.meet
        try:
            need = next(operation)
            while True:
                try:
                    came = meet(need)
                except BaseException as failure:  # noqa: BLE001 - the operation's to judge
                    need = operation.throw(failure)
                else:
                    need = operation.send(came)
        except StopIteration as over:
            returned: _T = over.value
            return returned
        finally:
            # Ctrl-C may strike here too: then the operation ends now, and not some time later.
            operation.close()

    def close(self) -> None:
        """Closes the connections, which ends their calls; another call makes a new one."""
        if self._owner.may_close():
            self.run(self.route.close())

    def meet(self, need: StreamNeed) -> Any:
        """Does what is needed.

        Raises:
          TickcellError: a call failed.
        """
        match need:
            case Exchange():
                return need.stream.exchange(need.requests, need.meanwhile)
            case Call(connection, method, request, timeout_s):
                with _closed_as_lost(connection):
                    return connection.call(method, request, timeout_s)
            case OpenTurns(connection, session):
                with _closed_as_lost(connection):
                    return StepStream(connection, session, self.deadline_s)
            case Wait(delay_s):
                return time.sleep(delay_s)
            case Close(connection):
                return connection.close()


@contextlib.contextmanager
def _closed_as_lost(connection: Connection) -> Iterator[None]:
    """Raises gRPC's failures as ours, that of a connection which another thread closes too."""
    try:
        yield
    except grpc.RpcError as error:
        raise grpc_errors.from_call(error) from None
    except ValueError:
        if not connection.is_closed:
            raise
        raise grpc_errors.closed() from None

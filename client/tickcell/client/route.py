"""The way to the servers of a store: calls that are sent again until their outcome is known.

Which server is asked, what a failure means, when to try again and when to give up. No I/O:
its operations yield what they need (see `needs`).
"""

from __future__ import annotations

import copy
import logging
import math
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from tickcell.client import address as addresses
from tickcell.client import arguments, errors, methods
from tickcell.client.backoff import Backoff
from tickcell.client.connection import Connection
from tickcell.client.credentials import NONE, Credentials, Shown
from tickcell.client.needs import Call, Close, Wait
from tickcell.client.servers import Servers
from tickcell.v1 import session_service_pb2

if TYPE_CHECKING:
    import types
    from collections.abc import Sequence

    from google.protobuf.message import Message

    from tickcell.client.address import Address
    from tickcell.client.methods import Method
    from tickcell.client.needs import Operation

# Far more than a turn of a loaded server takes, and short enough to notice a
# dead connection before a person does.
DEADLINE_S = 5.0
RETRY_FOR_S = 60.0

_log = logging.getLogger("tickcell.client")

_OPTIONS: list[tuple[str, Any]] = [
    # gRPC's retries know nothing of steps: it replays a stream from its buffer.
    ("grpc.enable_retries", 0),
    # Channels share connections, and with them their back-off, unless told not to.
    ("grpc.use_local_subchannel_pool", 1),
    # A page of sessions with their labels outgrows gRPC's 4 MB.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


class Failed(NamedTuple):
    """A try of a call that failed."""

    connection: Connection
    error: errors.TickcellError


class Route:
    """A connection to one of a store's servers, made anew, to another, whenever it breaks.

    Only requests that are safe to send again may be called. For several operations at
    once, in several threads too.

    Attributes:
      address: of the servers, with commas between them.
      credentials: by which the server is known, and what it is shown.
      deadline_s: how long one try of a call may take; infinite for no deadline.
      retry_for_s: how long to try again after a failure; None for ever.
    """

    def __init__(
        self,
        transport: types.ModuleType,
        address: str | Sequence[str],
        *,
        session: str = "",
        credentials: Credentials | None = None,
        deadline_s: float = DEADLINE_S,
        retry_for_s: float | None = RETRY_FOR_S,
    ) -> None:
        """Prepares a connection; the first call makes it.

        Args:
          transport: `grpc` or `grpc.aio`, by which channels are opened.
          address: `HOST:PORT` or `unix:PATH`; several servers of one store with commas
            between them, or as a list.
          session: the one that it is for, by which it is chosen what server is asked first;
            "" for the first that is given.
          credentials: None for plain text, and nothing shown.
          deadline_s: above 0; `math.inf` for no deadline.
          retry_for_s: 0 or more; None or `math.inf` for ever.

        Raises:
          AddressError: an address is neither.
          CredentialsError: a file cannot be used, or a token would be shown over plain text.
          UsageError: a time is out of its range.
        """
        places = addresses.parse_all(address)
        self._transport = transport
        self._servers = Servers(places, session)
        self.address = self._servers.name
        self.deadline_s = arguments.seconds("deadline_s", deadline_s, above=0.0)
        self.retry_for_s = (
            None
            if retry_for_s is None or retry_for_s == math.inf
            else arguments.seconds("retry_for_s", retry_for_s)
        )
        self.credentials = credentials or NONE
        self._shown = Shown(self.credentials, places)
        # Guards the connections: a session may be touched while it is stepped.
        self._lock = threading.Lock()
        # One to each server, at most; another than that in use is still being made.
        self._connections: dict[Address, Connection] = {}

    @property
    def timeout_s(self) -> float | None:
        """The deadline as gRPC takes it."""
        return None if self.deadline_s == math.inf else self.deadline_s

    @property
    def server_count(self) -> int:
        """How many servers may be asked."""
        return len(self._servers)

    def backoff(self) -> Backoff:
        """Returns what decides about the failures of one call, or of one stream after another."""
        return Backoff(self.address, self.retry_for_s, server_count=len(self._servers))

    def beside(self, *, retry_for_s: float | None) -> Route:
        """Returns a route with connections of its own, which asks the same server."""
        route = Route(
            self._transport,
            [each.text for each in self._servers.addresses],
            credentials=self.credentials,
            deadline_s=self.deadline_s,
            retry_for_s=retry_for_s,
        )
        route._servers = self._servers
        return route

    def with_patience(self, retry_for_s: float | None) -> Route:
        """Returns a route by the same connections that tries again for another time."""
        route = copy.copy(self)
        route.retry_for_s = retry_for_s
        return route

    def call(
        self, method: Method, request: Message, failed: Failed | None = None
    ) -> Operation[Any]:
        """Calls a unary method until its outcome is known.

        Args:
          method: to call.
          request: to send, any number of times.
          failed: what was tried before in another way, if anything.

        Raises:
          RefusedError: the server refused the request.
          CallError: gRPC refused it.
          UnavailableError: its outcome is still unknown after `retry_for_s`.
          StoreDiffersError: the servers that answer have another store.
        """
        backoff = self.backoff()
        if failed is not None:
            yield from self._after(backoff, *failed)
        while True:
            connection = self.connection()
            try:
                response = yield Call(connection, method, request, self.timeout_s)
                if method.store_id is not None:
                    store_id, is_proven = method.store_id(response), method.names_life
                    self._servers.check_store(connection.address, store_id, is_proven=is_proven)
            except errors.TickcellError as error:
                yield from self._after(backoff, connection, error)
            else:
                connection.has_answered = True
                backoff.answered()
                return response

    def connection(self) -> Connection:
        """Returns the connection to the server that is asked now."""
        return self._connect(self._servers.current)

    def judged(
        self, connection: Connection, failure: errors.TickcellError
    ) -> Operation[errors.TickcellError]:
        """Returns a failure of a call on a connection as what it means by now.

        A token that the server knows no more was exchanged for another, where there is one.
        A session that a server does not know may be one of another store.
        """
        if isinstance(failure, errors.CallerUnknownError):
            failure.may_pass = connection.token != self._shown.token()
        if len(self._servers) > 1 and isinstance(
            failure,
            errors.SessionEndedError | errors.SessionRestartedError | errors.SessionClaimedError,
        ):
            try:
                store_id = yield from self._store_of(connection, failure)
                if isinstance(failure, errors.SessionUnknownError):
                    yield from self._expect_store_with(failure.metadata["session"])
                self._servers.check_store(connection.address, store_id)
            except errors.TickcellError as differs:
                return differs
            except KeyError as missing:
                return errors.ReplyError(
                    f"{connection.address}: refused with {failure.reason} ({failure}) and without "
                    f"the {missing.args[0]} in its metadata, so it is not a tickcell server."
                )
        return failure

    def failed(self, connection: Connection, failure: errors.TickcellError) -> Operation[None]:
        """Gives a connection up after a call on it failed, if another may do better.

        Where another server may answer, that is asked next. One that is still being made is
        kept: a deadline that is shorter than connecting takes would else never be met.
        """
        if not (failure.may_pass or failure.elsewhere):
            return
        if failure.elsewhere:
            self._servers.leave(connection.address)
            current = self._servers.current
            if current is not connection.address:
                _log.info("%s: %s; going on with %s", connection.address, failure, current)
        is_silent = isinstance(failure, errors.CallError) and failure.code == "DEADLINE_EXCEEDED"
        if is_silent and connection.is_being_made:
            return
        with self._lock:
            if self._connections.get(connection.address) is connection:
                del self._connections[connection.address]
        yield Close(connection)

    def close(self) -> Operation[None]:
        """Closes the connections, which ends their calls; another call makes a new one."""
        with self._lock:
            connections = [*self._connections.values()]
            self._connections.clear()
        for connection in connections:
            yield Close(connection)

    def _after(
        self, backoff: Backoff, connection: Connection, error: errors.TickcellError
    ) -> Operation[None]:
        """Does what follows a failed try, up to the next one.

        Raises:
          TickcellError: there is no next one.
        """
        failure = yield from self.judged(connection, error)
        yield from self.failed(connection, failure)
        yield Wait(backoff.after(failure))

    def _store_of(self, connection: Connection, refused: errors.RefusedError) -> Operation[str]:
        """Returns the id of the store of a server that has refused a call about a session.

        Raises:
          TickcellError: it does not say.
        """
        if "store_id" in refused.metadata:
            return refused.metadata["store_id"]
        # A step was refused, and those name no store.
        request = session_service_pb2.GetSessionRequest(session=refused.metadata["session"])
        try:
            response = yield Call(connection, methods.GET_SESSION, request, self.timeout_s)
        except errors.SessionEndedError as ended:
            return ended.metadata["store_id"]
        store_id: str = response.session.store_id
        return store_id

    def _expect_store_with(self, session: str) -> Operation[None]:
        """Expects the store that has a session, where nothing is known of any store yet.

        The server that was asked first does not know it, and may be the one of another store.
        """
        if self._servers.is_store_known:
            return
        request = session_service_pb2.GetSessionRequest(session=session)
        for address in self._servers.addresses:
            connection = self._connect(address)
            try:
                response = yield Call(connection, methods.GET_SESSION, request, self.timeout_s)
            except errors.TickcellError as failure:
                yield from self.failed(connection, failure)
            else:
                self._servers.check_store(address, response.session.store_id)
                return

    def _connect(self, address: Address) -> Connection:
        with self._lock:
            connection = self._connections.get(address)
            if connection is None:
                proxy = [("grpc.enable_http_proxy", 0)] if address.is_local else []
                options = [*_OPTIONS, *proxy]
                channel, token = self._shown.channel(address.text, options, self._transport)
                connection = self._connections[address] = Connection(address, channel, token)
            return connection

"""The way to one server: calls with deadlines, sent again until their outcome is known."""

from __future__ import annotations

import functools
import math
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc

from tickcell.client import address as addresses
from tickcell.client import arguments, at_exit, errors, grpc_errors
from tickcell.client.backoff import Backoff
from tickcell.client.credentials import NONE, Credentials, Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

    from tickcell.client.methods import Method

# Far more than a turn of a loaded server takes, and short enough to notice a
# dead connection before a person does.
DEADLINE_S = 5.0
RETRY_FOR_S = 60.0

# How long a connection may be in the making, over however many tries of a call:
# several round trips of the slowest link.
_CONNECT_S = 5.0

_OPTIONS: list[tuple[str, Any]] = [
    # gRPC's retries know nothing of steps: it replays a stream from its buffer.
    ("grpc.enable_retries", 0),
    # Channels share connections, and with them their back-off, unless told not to.
    ("grpc.use_local_subchannel_pool", 1),
    # A page of sessions with their labels outgrows gRPC's 4 MB.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


class Link:
    """A connection to one server that is made anew whenever it breaks.

    Only requests that are safe to send again may be called.

    Attributes:
      address: of the server, as given.
      credentials: by which the server is known, and what it is shown.
      deadline_s: how long one try of a call may take; infinite for no deadline.
      retry_for_s: how long to try again after a failure; None for ever.
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: Credentials | None = None,
        deadline_s: float = DEADLINE_S,
        retry_for_s: float | None = RETRY_FOR_S,
    ) -> None:
        """Prepares a connection; the first call makes it.

        Args:
          address: `HOST:PORT` or `unix:PATH`.
          credentials: None for plain text, and nothing shown.
          deadline_s: above 0; `math.inf` for no deadline.
          retry_for_s: 0 or more; None or `math.inf` for ever.

        Raises:
          AddressError: the address is neither.
          CredentialsError: a file cannot be used, or a token would be shown over plain text.
          UsageError: a time is out of its range.
        """
        where = addresses.parse(address)
        self.address = address
        self.deadline_s = arguments.seconds("deadline_s", deadline_s, above=0.0)
        self.retry_for_s = (
            None
            if retry_for_s is None or retry_for_s == math.inf
            else arguments.seconds("retry_for_s", retry_for_s)
        )
        self.credentials = credentials or NONE
        self._shown = Shown(self.credentials, where)
        proxy = [("grpc.enable_http_proxy", 0)] if where.is_local else []
        self._options = [*_OPTIONS, *proxy]
        # Guards the connection: a session may be touched while it is stepped.
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._owner = at_exit.Owner(self)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def backoff(self) -> Backoff:
        """Returns what decides about the failures of one call, or of one stream after another."""
        return Backoff(self.address, self.retry_for_s)

    def call(self, method: Method, request: Message) -> Any:
        """Calls a unary method until its outcome is known.

        Raises:
          RefusedError: the server refused the request.
          CallError: gRPC refused it.
          UnavailableError: its outcome is still unknown after `retry_for_s`.
        """
        backoff = self.backoff()
        timeout = None if self.deadline_s == math.inf else self.deadline_s
        while True:
            connection = self._connect()
            try:
                response = connection.unary(method)(request, timeout=timeout)
            except grpc.RpcError as error:
                failure = self.judged(connection, grpc_errors.from_call(error))
                delay_s = backoff.after(failure)
                self.failed(connection, failure)
                time.sleep(delay_s)
            else:
                connection.has_answered = True
                backoff.answered()
                return response

    def stream(self, method: Method, requests: Iterator[Message]) -> tuple[Connection, Any]:
        """Begins a stream.

        Returns:
          The connection, and the call, which iterates over the responses and raises
          `grpc.RpcError`.
        """
        connection = self._connect()
        return connection, connection.stream(method, requests)

    def judged(self, connection: Connection, failure: errors.TickcellError) -> errors.TickcellError:
        """Returns a failure of a call on a connection as what it means by now.

        A token that the server knows no more was exchanged for another, where there is one.
        """
        if isinstance(failure, errors.CallerUnknownError):
            failure.may_pass = connection.token != self._shown.token()
        return failure

    def failed(self, connection: Connection, failure: errors.TickcellError) -> None:
        """Gives a connection up after a call on it failed, unless it is still being made.

        A deadline that is shorter than connecting takes would else never be met.
        """
        is_silent = isinstance(failure, errors.CallError) and failure.code == "DEADLINE_EXCEEDED"
        if is_silent and connection.is_being_made:
            return
        with self._lock:
            if self._connection is connection:
                self._connection = None
        connection.close()

    def close(self) -> None:
        """Closes the connection, which ends its calls; another call makes a new one."""
        if not self._owner.may_close():
            return
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> Connection:
        with self._lock:
            if self._connection is None:
                self._connection = Connection(*self._shown.channel(self.address, self._options))
            return self._connection


class Connection:
    """One channel, from its making to its end.

    Attributes:
      token: what each call on it shows; "" for none.
      has_answered: whether a call on it was answered.
    """

    def __init__(self, channel: grpc.Channel, token: str) -> None:
        self._channel = channel
        self.token = token
        self._metadata = (("authorization", f"Bearer {token}"),) if token else None
        self._begin = time.monotonic()
        self._unary: dict[str, Callable[..., Any]] = {}
        self.has_answered = False

    @property
    def is_being_made(self) -> bool:
        """Whether it may still come about."""
        return not self.has_answered and time.monotonic() - self._begin < _CONNECT_S

    def unary(self, method: Method) -> Callable[..., Any]:
        """Returns what calls a unary method."""
        call = self._unary.get(method.path)
        if call is None:
            call = functools.partial(
                self._channel.unary_unary(
                    method.path, request_serializer=_encode, response_deserializer=method.decode
                ),
                metadata=self._metadata,
            )
            self._unary[method.path] = call
        return call

    def stream(self, method: Method, requests: Iterator[Message]) -> Any:
        """Begins a stream."""
        return self._channel.stream_stream(
            method.path, request_serializer=_encode, response_deserializer=method.decode
        )(requests, metadata=self._metadata)

    def close(self) -> None:
        """Ends the calls on it."""
        self._unary = {}
        self._channel.close()


def _encode(request: Message) -> bytes:
    return request.SerializeToString()

"""The way to one server: calls with deadlines, sent again until their outcome is known."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Any

import grpc

from tickcell.client import errors, status
from tickcell.client.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

    from tickcell.client.methods import Method

DEFAULT_ADDRESS = "localhost:50061"

# Far more than a turn of a loaded server takes, and short enough to notice a
# dead connection before a person does.
DEADLINE_S = 5.0
RETRY_FOR_S = 60.0

# Who waits for less sees the end of it soon enough.
_WORTH_A_NOTE_S = 5.0

_OPTIONS: list[tuple[str, Any]] = [
    # gRPC's retries know nothing of steps: it replays a stream from its buffer.
    ("grpc.enable_retries", 0),
    # Channels share connections, and with them their back-off, unless told not to.
    ("grpc.use_local_subchannel_pool", 1),
    # A page of sessions with their labels outgrows gRPC's 4 MB.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]

_ADDRESS = re.compile(r"unix:.+|(?P<host>\[[^\]]+\]|[^:/\s]+):\d{1,5}")
_LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}

_log = logging.getLogger("tickcell.client")


class Link:
    """A connection to one server that is made anew whenever it breaks.

    Only requests that are safe to send again may be called. Not for several
    threads at once.
    """

    def __init__(
        self,
        address: str,
        *,
        deadline_s: float = DEADLINE_S,
        retry_for_s: float | None = RETRY_FOR_S,
    ) -> None:
        """Prepares a connection; the first call makes it.

        Args:
          address: `HOST:PORT` or `unix:PATH`.
          deadline_s: how long one try of a call may take.
          retry_for_s: how long to try again after a failure; None for ever.

        Raises:
          AddressError: the address is neither.
        """
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise errors.AddressError(
                f"server address: got {address!r}, expected HOST:PORT or unix:PATH."
            )
        self.address = address
        self.deadline_s = deadline_s
        self.retry_for_s = retry_for_s
        # What is on this machine is not reached through a proxy.
        proxy = [("grpc.enable_http_proxy", 0)] if match["host"] in _LOOPBACK else []
        self._options = [*_OPTIONS, *proxy]
        self._channel: grpc.Channel | None = None
        self._unary: dict[str, Callable[..., Any]] = {}

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: Method, request: Message) -> Any:
        """Calls a unary method until its outcome is known.

        Raises:
          RefusedError: the server refused the request.
          CallError: gRPC refused it.
          UnavailableError: its outcome is still unknown after `retry_for_s`.
        """
        patience = Patience(self.retry_for_s)
        while True:
            try:
                response = self._unary_call(method)(request, timeout=self.deadline_s)
            except grpc.RpcError as error:
                time.sleep(self.wait_after(status.from_call(error), patience))
            else:
                self.note_answer(patience)
                return response

    def stream(self, method: Method, requests: Iterator[Message]) -> Any:
        """Begins a stream and returns its call, which iterates over the responses.

        The call raises `grpc.RpcError`; it is for `wait_after` to say what that means.
        """
        return self._connect().stream_stream(
            method.path,
            request_serializer=_encode,
            response_deserializer=method.decode,
        )(requests)

    def wait_after(self, error: errors.TickcellError, patience: Patience) -> float:
        """Returns how long to wait before a request that failed is sent again.

        The next call makes a new connection.

        Raises:
          RefusedError, CallError: sending it again does not help, or it did not for
            as long as `patience` lasts.
          UnavailableError: the outcome is unknown and the patience is over.
        """
        is_lost = isinstance(error, errors.LostError)
        if not is_lost and not (isinstance(error, errors.RefusedError) and error.may_pass):
            raise error
        is_first = not patience.is_tried
        delay_s = patience.next_delay_s()
        if delay_s is None and is_lost:
            raise errors.UnavailableError(
                f"{self.address}: no answer for {patience.waited_s:.3g} s ({error}); whether the "
                "last request was applied is unknown, and sending it again is safe."
            ) from error
        if delay_s is None:
            raise error
        if is_first and not (self.retry_for_s is not None and self.retry_for_s < _WORTH_A_NOTE_S):
            how_long = "" if self.retry_for_s is None else f" for {self.retry_for_s:g} s"
            _log.warning("%s: %s; trying again%s", self.address, error, how_long)
        self.close()
        return delay_s

    def note_answer(self, patience: Patience) -> None:
        """Notes that the server answers (again)."""
        if patience.is_tried:
            _log.warning("%s: answers again after %.1f s", self.address, patience.waited_s)
            patience.answered()

    def close(self) -> None:
        """Closes the connection, which ends its calls; another call makes a new one."""
        channel, self._channel = self._channel, None
        self._unary = {}
        if channel is not None:
            channel.close()

    def _connect(self) -> grpc.Channel:
        if self._channel is None:
            self._channel = grpc.insecure_channel(self.address, self._options)
        return self._channel

    def _unary_call(self, method: Method) -> Callable[..., Any]:
        call = self._unary.get(method.path)
        if call is None:
            call = self._connect().unary_unary(
                method.path, request_serializer=_encode, response_deserializer=method.decode
            )
            self._unary[method.path] = call
        return call


def _encode(request: Message) -> bytes:
    return request.SerializeToString()

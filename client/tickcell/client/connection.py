"""One channel to one server, and what each call on it shows beside its message."""

from __future__ import annotations

import string
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from google.protobuf.message import Message

    from tickcell.client.address import Address
    from tickcell.client.methods import Method

# How long a connection may be in the making, over however many tries of a call:
# several round trips of the slowest link.
_CONNECT_S = 5.0

# By this a proxy keeps a session's calls together. Longer than any id that is one, and
# within what a server takes.
_SESSION_KEY = "x-session-id"
_SESSION_CHARACTERS = 256
# What metadata may hold as it is.
_PLAIN = string.ascii_letters + string.digits + string.punctuation.replace("%", "")


class Connection:
    """One channel to one server, from its making to its end.

    The channel is one of `grpc` or of `grpc.aio`, and so is what a call gives.

    Attributes:
      address: of the server.
      token: what each call on it shows; "" for none.
      has_answered: whether a call on it was answered.
      is_closed: whether it was ended here, and its calls with it.
    """

    def __init__(self, address: Address, channel: Any, token: str) -> None:
        self.address = address
        self._channel = channel
        self.token = token
        self._authorization = (("authorization", f"Bearer {token}"),) if token else ()
        # Which session the call before named, and what it showed: most likely this one's too.
        self._shown: tuple[str, tuple[tuple[str, str], ...]] = ("", self._authorization)
        self._begin = time.monotonic()
        self._unary: dict[str, Callable[..., Any]] = {}
        self.has_answered = False
        self.is_closed = False

    @property
    def is_being_made(self) -> bool:
        """Whether it may still come about."""
        return not self.has_answered and time.monotonic() - self._begin < _CONNECT_S

    def call(self, method: Method, request: Message, timeout_s: float | None) -> Any:
        """Calls a unary method; gives what the channel's call gives."""
        call = self._unary.get(method.path)
        if call is None:
            call = self._channel.unary_unary(
                method.path, request_serializer=_encode, response_deserializer=method.decode
            )
            self._unary[method.path] = call
        metadata = self.metadata(getattr(request, "session", ""))
        return call(request, timeout=timeout_s, metadata=metadata)

    def stream(
        self,
        method: Method,
        session: str,
        requests: Iterator[Message] | AsyncIterator[Message] | None,
        decode: Callable[[bytes], Any] | None = None,
    ) -> Any:
        """Begins a stream of one session's steps.

        Args:
          method: of the stream.
          session: whose steps.
          requests: in order; None where they are written one by one.
          decode: what a response is given to as bytes, instead of being decoded.
        """
        return self._channel.stream_stream(
            method.path,
            request_serializer=_encode,
            response_deserializer=decode or method.decode,
        )(requests, metadata=self.metadata(session))

    def metadata(self, session: str) -> tuple[tuple[str, str], ...]:
        """Returns what a call shows: the token, and the session that it names, if any."""
        shown_for, metadata = self._shown
        if session != shown_for:
            named = ((_SESSION_KEY, _as_metadata(session)),) if session else ()
            metadata = (*self._authorization, *named)
            self._shown = (session, metadata)
        return metadata

    def close(self) -> Any:
        """Ends the calls on it; gives what the channel's `close` gives."""
        self.is_closed = True
        self._unary = {}
        return self._channel.close()


def _encode(request: Message) -> bytes:
    return request.SerializeToString()


def _as_metadata(session: str) -> str:
    """Returns a session's id in the characters that metadata may hold."""
    return urllib.parse.quote(session[:_SESSION_CHARACTERS], safe=_PLAIN)

"""What an operation of the client needs from outside: the line between what decides and what does.

An operation is a generator. It decides everything and does no I/O: it yields what it needs
next as one of the values below, and is sent what came of it, or has the failure thrown in.
`Link` does what is needed with threads, `AsyncLink` with asyncio; an operation cannot tell.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from tickcell.client.connection import Connection
    from tickcell.client.methods import Method

_T = TypeVar("_T")


class Call(NamedTuple):
    """Needs a unary method to be called, once: sent the response.

    Attributes:
      timeout_s: how long it may take; None for no deadline.
    """

    connection: Connection
    method: Method
    request: Message
    timeout_s: float | None


class Wait(NamedTuple):
    """Needs some seconds to pass."""

    delay_s: float


class Close(NamedTuple):
    """Needs a connection to end, and the calls on it."""

    connection: Connection


Need = Call | Wait | Close
Operation = Generator[Need, Any, _T]

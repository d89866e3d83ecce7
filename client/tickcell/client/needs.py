"""What an operation of the client asks its driver for: the line between deciding and doing.

An operation is a generator. It decides everything and does no I/O: it yields what it needs
next as one of the values below, and is sent the result, or has the failure thrown in.
`Link` provides it with threads, `AsyncLink` with asyncio; an operation cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from tickcell.client.connection import Connection
    from tickcell.client.methods import Method
    from tickcell.client.turns import TurnStream

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


class OpenTurns(NamedTuple):
    """Needs a stream of a session's single steps to be opened: sent the stream."""

    connection: Connection
    session: str


class Exchange(NamedTuple):
    """Needs requests to go out on a stream, or none: sent the reply to the oldest without one.

    Attributes:
      meanwhile: is called once they are on their way.
    """

    stream: TurnStream
    requests: Sequence[Message]
    meanwhile: Callable[[], object]


class Open(NamedTuple):
    """Needs a stream of a session's steps to begin: sent its call, which can be cancelled.

    Attributes:
      opened: which stream of its pipeline it is, by which its requests are drawn.
    """

    connection: Connection
    session: str
    opened: int


class Read(NamedTuple):
    """Needs the next reply of a stream: sent None at its end."""

    call: Any


class Work(NamedTuple):
    """Needs the carrier of a pipeline to be woken, or some seconds to pass.

    Attributes:
      is_over: whether it need not wait; asked while the pipeline's lock is held.
      timeout_s: None for ever.
    """

    is_over: Callable[[], bool]
    timeout_s: float | None


class Look(NamedTuple):
    """Needs the caller of a pipeline to be woken, or some seconds to pass; None for ever."""

    timeout_s: float | None


class Entry(NamedTuple):
    """Needs a request to go out in a gateway's next message: sent the connection and the reply.

    The gateway's own operation does that.
    """

    request: Message


Need = Call | Wait | Close | OpenTurns | Exchange | Entry
Operation = Generator[Need, Any, _T]
StreamNeed = Need | Open | Read | Work | Look
# Of a pipeline, which does what it needs.
StreamOperation = Generator[StreamNeed, Any, _T]

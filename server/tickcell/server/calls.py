"""How a call is answered: bytes parsed here, and every refusal as a typed status.

Requests come as raw bytes and are parsed by us, so that bytes which are no
message are answered like any other fault; gRPC would answer UNKNOWN and end a
stream.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, status_pb2

from tickcell import wire
from tickcell.server import errors, messages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tickcell.server.access import Access
    from tickcell.server.caller import Caller
    from tickcell.server.observer import Observer

    Context = grpc.aio.ServicerContext[bytes, bytes]
    Handler = grpc.RpcMethodHandler[bytes, bytes]

_Request = TypeVar("_Request", bound=Message)

# A few turns of a loop under load.
_QUIET_S = 0.02

_log = logging.getLogger(__name__)


class Gate:
    """Open while the server serves; once closed, new calls are refused."""

    def __init__(self, access: Access, observer: Observer) -> None:
        self._access = access
        self._observer = observer
        self.is_open = True
        self._refused_count = 0

    def close(self) -> None:
        """Refuses what comes from now on."""
        self.is_open = False

    def admit(self, context: Context) -> Caller:
        """Returns who calls, by what is known of the call.

        Raises:
          Draining: the gate is closed.
          CallerUnknown: nobody whom the server knows.
        """
        if not self.is_open:
            self._refused_count += 1
            raise draining()
        return self._access.caller_of(context)

    async def refuse(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        error: errors.TickcellError,
        status: status_pb2.Status | None = None,
    ) -> NoReturn:
        """Ends a call with a typed error, which is counted.

        Args:
          context: the call's.
          error: why.
          status: how another protocol puts it; None as it is.
        """
        self._observer.refused(error)
        if status is None:
            status = messages.status(error)
        await context.abort(
            grpc.StatusCode[code_pb2.Code.Name(status.code)],
            status.message,
            (("grpc-status-details-bin", status.SerializeToString()),),
        )
        raise AssertionError("abort does not return")

    async def wait_until_quiet(self, limit_s: float) -> None:
        """Waits until no more calls come to be refused, but no longer than that.

        A server that stops cancels, without a word, what it has not taken up yet.
        """
        deadline = time.monotonic() + limit_s
        seen = -1
        while seen != self._refused_count and time.monotonic() < deadline:
            seen = self._refused_count
            await asyncio.sleep(_QUIET_S)


def draining() -> errors.Draining:
    """Returns the answer to who comes too late."""
    return errors.Draining(
        "the server is stopping; connect again, to its successor or to another server of its "
        "store, and send again what is unanswered."
    )


def parse(request_class: type[_Request], encoded: bytes) -> _Request:
    """Returns the message that the bytes are.

    Raises:
      Malformed: they are not.
    """
    try:
        return request_class.FromString(encoded)
    except DecodeError as error:
        raise malformed(request_class.DESCRIPTOR.name, error) from error


def parse_twin(twin: Any, encoded: bytes) -> Any:
    """Returns the step message that the bytes are, as a twin of `tickcell.wire`.

    Raises:
      Malformed: they are not.
    """
    try:
        return wire.parse(twin, encoded)
    except DecodeError as error:
        raise malformed(twin.DESCRIPTOR.name, error) from error


def malformed(name: str, error: DecodeError) -> errors.Malformed:
    """Returns the answer to bytes that are not the message of this name."""
    return errors.Malformed(
        f"the request is not a {name}: {error}; nothing was applied.", expected=name
    )


def unary(
    gate: Gate,
    request_class: type[_Request],
    answer: Callable[[Caller, _Request], Awaitable[Message | bytes]],
) -> Handler:
    """Makes a method of a function from a caller and a message to a message, encoded or not."""

    async def parse_and_answer(caller: Caller, encoded: bytes) -> Message | bytes:
        return await answer(caller, parse(request_class, encoded))

    return unary_bytes(gate, request_class.DESCRIPTOR.name, parse_and_answer)


def unary_bytes(
    gate: Gate, name: str, answer: Callable[[Caller, bytes], Awaitable[Message | bytes]]
) -> Handler:
    """Makes a method of a function from a caller and an encoded message of this name."""

    async def handle(encoded: bytes, context: Context) -> bytes:
        try:
            answered = await answer(gate.admit(context), encoded)
            return answered if isinstance(answered, bytes) else answered.SerializeToString()
        except errors.TickcellError as error:
            await gate.refuse(context, error)
        except Exception:  # noqa: BLE001 - the edge: logged here, answered without the traceback.
            _log.exception("%s failed", name)
            await gate.refuse(context, errors.internal(name))

    return grpc.unary_unary_rpc_method_handler(handle)

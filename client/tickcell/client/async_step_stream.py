"""A stream of turns with asyncio: requests go out, and the reply to the oldest is awaited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from tickcell.client import grpc_errors, methods
from tickcell.client.due import Due, ended

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message

    from tickcell.client import errors
    from tickcell.client.connection import Connection


class AsyncStepStream:
    """An open stream; see `TurnStream`. For one task at a time.

    Attributes:
      connection: the one that it is on.
    """

    def __init__(self, connection: Connection, session: str, deadline_s: float) -> None:
        """Opens it; nothing is sent yet."""
        self.connection = connection
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._due = Due(deadline_s, now)
        self._call: Any = connection.stream(methods.STREAM_STEPS, session, None)
        # Armed anew only when it goes off, or for an earlier time.
        self._timer = self._loop.call_at(self._due.at, self._look)
        self._is_connected = False

    @property
    def is_over(self) -> bool:
        """Whether it was given up."""
        return self._due.is_over

    async def exchange(self, requests: Sequence[Message], meanwhile: Callable[[], object]) -> Any:
        """Sends requests, and returns the reply to the oldest that has none; see `TurnStream`.

        Raises:
          LostError: there was none in time, or the stream broke off.
          RefusedError: the server ended the stream for this.
          CancelledError: the task was cancelled; or the stream, which `is_over` then.
        """
        due = self._due
        due.begin(self._loop.time())
        if due.at < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(due.at, self._look)
        try:
            for request in requests:
                try:
                    await (self._call.write if self._is_connected else self._write_first)(request)
                except asyncio.InvalidStateError:
                    # The server has ended it by now, and reading tells why.
                    break
            meanwhile()
            reply = await self._call.read()
        except grpc.RpcError as error:
            raise grpc_errors.from_call(error) from None
        if reply is grpc.aio.EOF:
            raise ended()
        due.end(self._loop.time())
        return reply

    def failure(self) -> errors.LostError:
        """Returns the failure of a request that waited when the stream was given up."""
        return self._due.failure()

    def drop(self) -> None:
        """Ends it, and waits for nothing; once more is nothing."""
        self._due.is_over = True
        self._timer.cancel()
        self._call.cancel()

    async def _write_first(self, request: Message) -> None:
        """Hands the first request over, or finds that the stream has ended.

        gRPC lets it wait for a connection, and would let it wait for ever if the stream
        were cancelled meanwhile.
        """
        has_ended = asyncio.Event()
        self._call.add_done_callback(lambda _: has_ended.set())
        ending = asyncio.ensure_future(has_ended.wait())
        writing = asyncio.ensure_future(self._call.write(request))
        try:
            await asyncio.wait({writing, ending}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
                self._is_connected = True
        finally:
            writing.cancel()
            ending.cancel()

    def _look(self) -> None:
        if self._due.look(self._loop.time()):
            self._call.cancel()
        else:
            self._timer = self._loop.call_at(self._due.at, self._look)

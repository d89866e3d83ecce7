"""A delivery with asyncio: the carrier is a task, gRPC has another, and the caller awaits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from tickcell.client import grpc_errors, methods
from tickcell.client.needs import Look, Open, Read, Work
from tickcell.client.pipeline_core import PipelineCore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tickcell.client.async_link import AsyncLink
    from tickcell.client.delivery import Outputs
    from tickcell.client.needs import StreamNeed, StreamOperation
    from tickcell.client.pipeline_core import Cargo

_T = TypeVar("_T")


class AsyncPipeline(PipelineCore):
    """The steps of one session in flight, of one event loop; a thread may push."""

    def __init__(self, link: AsyncLink, cargo: Cargo) -> None:
        """Prepares the next steps, in a running event loop; the first frame opens the stream.

        Args:
          link: the way to the servers; others may call by it too.
          cargo: the steps.
        """
        super().__init__(link.route, cargo)
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._carrier: asyncio.Task[None] | None = None
        # Who waits for what, as in `Pipeline`; and a source that is drawn from by a task.
        self._chunks, self._work, self._looks, self._rooms = (_Bell() for _ in range(4))

    async def take(self, timeout_s: float | None = None) -> Outputs | None:
        """Returns the outputs of the step `flight.first` and of those answered with it.

        As `Pipeline.take`. Cancelled, it has taken nothing.
        """
        return await self.run(self.taking(timeout_s))

    async def run(self, operation: StreamOperation[_T]) -> _T:
        """Does what one of its operations needs, in the caller's task or the carrier's."""
        return await self._link.run(operation, self._meet)

    async def room_came(self) -> bool:
        """Waits, in a source's task, until a frame may be pushed; false if none is needed."""
        while self.needs_frames and not self.room:
            await self._rooms.wait()
        return self.needs_frames

    def close(self) -> None:
        """Ends the stream; `closed` waits until its task has ended."""
        call = self._ended()
        if call is not None and not self._loop.is_closed():
            self._in_loop(call.cancel)

    @property
    def is_closed(self) -> bool:
        """Whether nothing of it is left, after `close`."""
        return self._carrier is None or self._carrier.done()

    async def closed(self) -> None:
        """Waits until nothing of it is left, after `close`."""
        if self._carrier is not None:
            await asyncio.wait([self._carrier])

    async def _meet(self, need: StreamNeed) -> Any:
        """Does what is needed.

        Raises:
          TickcellError: the stream has failed.
        """
        match need:
            case Look(timeout_s):
                return await self._looks.wait(timeout_s)
            case Read(call):
                return await _read(call)
            case Work(is_over, timeout_s):
                # Nobody is in between: all that changes it is done in this event loop, or
                # rings in it.
                until = None if timeout_s is None else self._loop.time() + timeout_s
                while not is_over() and (until is None or self._loop.time() < until):
                    await self._work.wait(None if until is None else until - self._loop.time())
                return None
            case Open(connection, session, opened):
                return connection.stream(methods.STREAM_STEPS, session, self._requests(opened))
            case _:
                return await self._link.meet(need)

    async def _requests(self, opened: int) -> AsyncIterator[Any]:
        """Yields the requests of one stream, in gRPC's task."""
        while True:
            with self._lock:
                is_due = self._has_request(opened)
                chunk = self._next_chunk(opened) if is_due else None
            if not is_due:
                await self._chunks.wait()
            elif chunk is None:
                return
            else:
                yield self._request(chunk)

    def _start_carrier(self) -> None:
        self._in_loop(self._begin_carrying)

    def _begin_carrying(self) -> None:
        if self._carrier is None:
            self._carrier = self._loop.create_task(self.run(self.carrying()), name="tickcell-steps")

    def _wake_source(self) -> None:
        super()._wake_source()
        self._in_loop(self._rooms.ring)

    def _wake_sender(self) -> None:
        self._in_loop(self._chunks.ring)

    def _wake_carrier(self) -> None:
        self._in_loop(self._work.ring)

    def _wake_caller(self) -> None:
        self._in_loop(self._looks.ring)

    def _in_loop(self, act: Callable[[], object]) -> None:
        """Does something in the event loop: now, or soon where a source's thread asks."""
        if threading.get_ident() == self._thread:
            act()
            return
        # A loop that has ended has nobody who waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(act)


class _Bell:
    """What tasks wait for until somebody rings."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wakes all who wait."""
        for each in self._waiting:
            if not each.done():
                each.set_result(None)

    async def wait(self, timeout_s: float | None = None) -> None:
        """Waits until it rings, or until so many seconds are over."""
        loop = asyncio.get_running_loop()
        rung = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, _wake, rung)
        self._waiting.add(rung)
        try:
            await rung
        finally:
            self._waiting.discard(rung)
            if timer is not None:
                timer.cancel()


def _wake(rung: asyncio.Future[None]) -> None:
    if not rung.done():
        rung.set_result(None)


async def _read(call: Any) -> Any:
    """Returns the next reply of a stream; None at its end.

    Raises:
      TickcellError: the stream has failed.
    """
    task = asyncio.current_task()
    assert task is not None
    cancelling = task.cancelling()
    try:
        reply = await call.read()
    except grpc.RpcError as error:
        raise grpc_errors.from_call(error) from None
    except asyncio.CancelledError:
        if task.cancelling() > cancelling:
            raise
        # gRPC's word for a call that was ended here, such as one that is overdue.
        raise grpc_errors.closed() from None
    return None if reply is grpc.aio.EOF else reply

"""Callers that bring much: a process of its own beside the one whose ticks are measured."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import grpc
import numpy as np

from tickcell import wire
from tickcell.model import Bundle
from tickcell.v1 import session_service_pb2 as pb

_SERVICE = "/tickcell.v1.SessionService/"
# A request of as many rows as a server takes by default.
_SERIES, _STEPS = 256, 32
_LISTED = 1000

_Caller = Callable[["_Server"], Coroutine[Any, Any, None]]


class _Server:
    """The methods that a crowd calls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def method(self, name: str, response: type[Any]) -> Callable[..., Awaitable[Any]]:
        called: Any = self._channel.unary_unary(
            _SERVICE + name,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return called  # type: ignore[no-any-return]  # gRPC's types know no messages of ours.

    async def create(self, **fields: Any) -> pb.Session:
        created = await self.method("CreateSession", pb.CreateSessionResponse)(
            pb.CreateSessionRequest(request_id=str(uuid.uuid4()), **fields)
        )
        session: pb.Session = created.session
        return session


async def _step_in_bulk(server: _Server) -> None:
    """Steps 256 series by 32 steps a request, as fast as it is answered."""
    session = await server.create(series_count=_SERIES, window_step_count=_STEPS)
    frames = np.tile(Bundle.load().golden.frames[:_STEPS, np.newaxis], (1, _SERIES, 1))
    step = server.method("StepSession", wire.StepSessionResponse)
    first_step = 0
    while True:
        await step(
            wire.StepSessionRequest(
                session=session.id,
                generation=session.generation,
                first_step=first_step,
                step_count=_STEPS,
                frames=frames.astype("<f4").tobytes(),
            )
        )
        first_step += _STEPS


async def _step_together(server: _Server) -> None:
    """Steps 256 sessions by one message, as fast as it is answered."""
    sessions = [await server.create() for _ in range(_SERIES)]
    frames = Bundle.load().golden.frames.astype("<f4")
    step = server.method("StepSessions", wire.StepSessionsResponse)
    first_step = 0
    while True:
        requests = [
            wire.StreamStepsRequest(
                session=session.id,
                generation=session.generation,
                first_step=first_step,
                step_count=1,
                frames=frames[first_step % len(frames)].tobytes(),
            ).SerializeToString()
            for session in sessions
        ]
        await step(wire.StepSessionsRequest(requests=requests))
        first_step += 1


async def _list(server: _Server) -> None:
    """Lists a thousand sessions, over and over."""
    for _ in range(_LISTED):
        await server.create()
    list_sessions = server.method("ListSessions", pb.ListSessionsResponse)
    while True:
        await list_sessions(pb.ListSessionsRequest(page_size=_LISTED))


async def _create(server: _Server) -> None:
    """Creates sessions of a thousand series and deletes them, over and over."""
    delete = server.method("DeleteSession", pb.DeleteSessionResponse)
    while True:
        try:
            session = await server.create(series_count=1000, window_step_count=1)
            await delete(pb.DeleteSessionRequest(session=session.id, generation=session.generation))
        except grpc.aio.AioRpcError as error:
            # Amid 5 MB/s of commits a slow disk may keep the store busy.
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise


CROWDS: dict[str, _Caller] = {
    "bulk": _step_in_bulk,
    "gateways": _step_together,
    "lists": _list,
    "creates": _create,
}


@contextlib.contextmanager
def calling(address: str, kind: str, count: int) -> Iterator[None]:
    """Has so many callers of a kind call a server; they have begun when this begins."""
    command = [sys.executable, "-m", "bench.crowd", address, kind, str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


async def _run(address: str, kind: str, count: int) -> None:
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        callers = [asyncio.create_task(CROWDS[kind](_Server(channel))) for _ in range(count)]
        await asyncio.wait(callers, timeout=2.0 if kind in ("bulk", "creates") else 10.0)
        sys.stdout.write("calling\n")
        sys.stdout.flush()
        await asyncio.gather(*callers)


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], sys.argv[2], int(sys.argv[3])))

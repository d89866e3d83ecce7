"""Calls the server: sessions, their requests, and streams of raw bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell import wire
from tickcell.v1 import session_service_pb2

if TYPE_CHECKING:
    import grpc
    from numpy.typing import NDArray


TICKS = "/tickcell.v1.SessionService/StreamSteps"


class Session:
    """A session of one agent, and the requests of its ticks."""

    def __init__(self, session: session_service_pb2.Session, frames: NDArray[np.float32]) -> None:
        self._session = session
        self._frames = frames.astype("<f4")

    @classmethod
    async def create(cls, channel: grpc.aio.Channel, frames: NDArray[np.float32]) -> Session:
        """Creates a session that is fed `[N, F]` frames, over and over."""
        create = channel.unary_unary(
            "/tickcell.v1.SessionService/CreateSession",
            request_serializer=session_service_pb2.CreateSessionRequest.SerializeToString,
            response_deserializer=session_service_pb2.CreateSessionResponse.FromString,
        )
        created = await create(session_service_pb2.CreateSessionRequest())
        return cls(created.session, frames)

    def frame(self, step: int) -> NDArray[np.float32]:
        """Returns the frame of a step, `[F]`."""
        frame: NDArray[np.float32] = self._frames[step % len(self._frames)]
        return frame

    def request(self, step: int, count: int = 1) -> bytes:
        """Returns the encoded request for a step, or for so many from it on."""
        encoded: bytes = wire.StreamStepsRequest(
            session=self._session.id,
            generation=self._session.generation,
            first_step=step,
            step_count=count,
            frames=b"".join([self.frame(each).tobytes() for each in range(step, step + count)]),
        ).SerializeToString()
        return encoded


def output(response: bytes) -> bytes:
    """Returns what a tick's response answers; a refusal ends the benchmark."""
    answer = wire.StreamStepsResponse.FromString(response)
    if answer.HasField("error"):
        raise RuntimeError(f"a tick was refused: {answer.error.message}")
    outputs: bytes = answer.outputs
    return outputs


class Stream:
    """An open stream of a method, with one message in flight at a time."""

    def __init__(self, channel: grpc.aio.Channel, method: str) -> None:
        self._call: Any = channel.stream_stream(method)()

    async def exchange(self, request: bytes) -> bytes:
        """Sends a request and returns its response."""
        await self._call.write(request)
        response: bytes = await self._call.read()
        return response

    async def close(self) -> None:
        """Half-closes, and waits until the server has ended the stream."""
        await self._call.done_writing()
        await self._call.read()

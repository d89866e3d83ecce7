"""gRPC's reflection service: grpcio's answers, behind our edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from tickcell.server import calls, errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

REFLECTION_SERVICE = reflection.SERVICE_NAME


class ReflectionServicer:
    """Shows the contracts of some services to tools that have no copy of them."""

    def __init__(self, gate: calls.Gate, services: Iterable[str]) -> None:
        self._gate = gate
        self._reflection = reflection.aio.ReflectionServicer((*services, REFLECTION_SERVICE))

    def methods(self) -> dict[str, calls.Handler]:
        """Returns the methods' handlers by name."""
        return {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(self._answer)}

    async def _answer(
        self, requests: AsyncIterator[bytes], context: calls.Context
    ) -> AsyncIterator[bytes]:
        try:
            async for response in self._reflection.ServerReflectionInfo(_parsed(requests), context):
                yield response.SerializeToString()
        except errors.TickcellError as error:
            await self._gate.refuse(context, error)


async def _parsed(
    requests: AsyncIterator[bytes],
) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    async for encoded in requests:
        yield calls.parse(reflection_pb2.ServerReflectionRequest, encoded)

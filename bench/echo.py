"""The bare echo: what a message there and one back cost in gRPC, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from tickcell import wire

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[bytes, bytes]

_SERVICE = "tickcell.bench.EchoService"
_METHOD = "StreamEchoes"
METHOD = f"/{_SERVICE}/{_METHOD}"

# As a tick's response is: an id that is a UUID, a generation of 53 bits.
_RESPONSE = wire.StreamStepsResponse(
    session=36 * "x", generation=2**52, first_step=10_000, step_count=1, outputs=bytes(4)
)
_RESPONSE_SIZE = _RESPONSE.ByteSize()


async def _echo(_: object, context: Context) -> None:
    while True:
        encoded: Any = await context.read()
        if encoded is grpc.aio.EOF:
            return
        await context.write(encoded[:_RESPONSE_SIZE])


def handler() -> grpc.GenericRpcHandler:
    """Returns the method, to be served beside tickcell's own."""
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(_echo)
    return grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: method})

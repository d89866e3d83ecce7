"""Health and reflection, as their packages have them, but for bytes that are no message.

gRPC would answer those with UNKNOWN and a traceback in the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from tickcell.server import calls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from grpc_health.v1 import health


def add_health(servicer: health.aio.HealthServicer, server: grpc.aio.Server) -> None:
    """Serves grpc.health.v1."""
    health_pb2_grpc.add_HealthServicer_to_server(servicer, _Tolerant(server))


def add_reflection(names: Iterable[str], server: grpc.aio.Server) -> None:
    """Serves the reflection of the services with these names."""
    servicer = reflection.aio.ReflectionServicer(names)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, _Tolerant(server))


class _Tolerant:
    """Takes the handlers that generated code adds to a server, and adds their tolerant twins."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Does nothing: the same handlers come once more, by name."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        tolerant = {name: _tolerant(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, tolerant),)
        )


def _tolerant(handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
    """Returns a handler that refuses what its message cannot be parsed from."""
    options = (_parser(handler.request_deserializer), handler.response_serializer)
    name = handler.request_deserializer.__self__.DESCRIPTOR.name

    async def checked(request: Any, context: calls.Context) -> Any:
        if isinstance(request, DecodeError):
            await calls.abort(context, calls.malformed(name, request))
        return request

    async def one(request: Any, context: calls.Context) -> Any:
        return await handler.unary_unary(await checked(request, context), context)

    async def watch(request: Any, context: calls.Context) -> None:
        await handler.unary_stream(await checked(request, context), context)

    async def stream(requests: AsyncIterator[Any], context: calls.Context) -> AsyncIterator[Any]:
        parsed = (await checked(request, context) async for request in requests)
        async for response in handler.stream_stream(parsed, context):
            yield response

    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(one, *options)
    if handler.unary_stream is not None:
        return grpc.unary_stream_rpc_method_handler(watch, *options)
    return grpc.stream_stream_rpc_method_handler(stream, *options)


def _parser(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Returns what parses a request, or returns why it cannot."""

    def tolerant(encoded: bytes) -> Any:
        try:
            return parse(encoded)
        except DecodeError as error:
            return error

    return tolerant

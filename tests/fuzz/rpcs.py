"""The RPCs of a server, as it lists them itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

# What describes the services: it is in the pool once it is imported.
from grpc_health.v1 import health_pb2 as health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2 as service_pb2

from tickcell.conformance.caller import PATIENCE_S
from tickcell.v1 import model_service_pb2 as model_service_pb2
from tickcell.v1 import session_service_pb2 as session_service_pb2

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class Rpc(NamedTuple):
    """A method of a service.

    Attributes:
      path: as it is called, `/service/method`.
      request_class: the message that it takes.
      takes_many: whether it takes a stream of them.
      gives_many: whether it answers with a stream.
    """

    path: str
    request_class: type[Message]
    takes_many: bool
    gives_many: bool


def of_server(address: str) -> dict[str, Rpc]:
    """Returns the RPCs of a server's services, by path."""
    request = reflection_pb2.ServerReflectionRequest(list_services="*")
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.stream_stream(REFLECTION)
        (encoded,) = call(iter([request.SerializeToString()]), timeout=PATIENCE_S)
    listed = reflection_pb2.ServerReflectionResponse.FromString(encoded)
    services = [each.name for each in listed.list_services_response.service]
    return {rpc.path: rpc for service in services for rpc in _described(service)}


def _described(service: str) -> list[Rpc]:
    descriptor: Any = descriptor_pool.Default().FindServiceByName(service)
    return [
        Rpc(
            f"/{service}/{method.name}",
            message_factory.GetMessageClass(method.input_type),
            method.client_streaming,
            method.server_streaming,
        )
        for method in descriptor.methods
    ]

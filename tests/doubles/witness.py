"""A proxy that passes all calls on to a server, and keeps what they show beside their messages."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc

# Whatever gRPC adds by itself.
_OWN = ("user-agent",)


class Witness(grpc.GenericRpcHandler):
    """Calls pass through it as they are.

    Attributes:
      address: where it listens.
      seen: each call's method and metadata.
    """

    def __init__(self, behind: str) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._channel = grpc.insecure_channel(behind)
        self._server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        """Ends all calls."""
        self._server.stop(None).wait()
        self._channel.close()

    def service(self, call: Any) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Returns what passes a call on; a unary one is a stream of one message."""
        metadata = tuple(pair for pair in call.invocation_metadata if pair[0] not in _OWN)
        self.seen.append((call.method.rpartition("/")[2], dict(metadata)))
        onward: Any = self._channel.stream_stream(call.method)

        def pass_on(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
            return iter(onward(requests, metadata=metadata))

        return grpc.stream_stream_rpc_method_handler(pass_on)

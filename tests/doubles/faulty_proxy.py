"""A network that fails on purpose: a gRPC proxy that breaks the calls it is told to break."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, Literal

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from tickcell.v1 import session_service_pb2

Kind = Literal["lose request", "lose reply", "stall", "refuse"]


@dataclasses.dataclass(frozen=True)
class Fault:
    """What goes wrong with one call.

    Attributes:
      kind: "lose request": it does not arrive; "lose reply": it is served, and the
        connection breaks instead of the reply; "stall": it is served, and nothing
        comes back at all; "refuse": the server seems to refuse it.
      after: for a stream: how many replies pass before.
      code: of what the caller gets.
      reason: of a refusal.
    """

    kind: Kind
    after: int = 0
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    reason: str = ""

    @property
    def status(self) -> status_pb2.Status:
        """The refusal as the server would put it."""
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain="tickcell"))
        return status_pb2.Status(
            code=self.code.value[0], message="refused on purpose", details=[detail]
        )


class FaultyProxy(grpc.GenericRpcHandler):
    """Forwards every call to a server.

    Attributes:
      faults: by method, what goes wrong with its next calls.
      requests: by method, the bytes of the requests so far.
      calls: by method, how many calls there were.
    """

    def __init__(self, target: str) -> None:
        self.faults = collections.defaultdict[str, collections.deque[Fault]](collections.deque)
        self.requests = collections.defaultdict[str, list[bytes]](list)
        self.calls = collections.Counter[str]()
        self._target = grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)])
        self._server = grpc.server(futures.ThreadPoolExecutor(16), [self])
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._ended = threading.Event()
        self._server.start()

    def close(self) -> None:
        self._ended.set()
        self._server.stop(None).wait()
        self._target.close()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        path = details.method
        if path.endswith("/StreamSteps"):
            return grpc.stream_stream_rpc_method_handler(self._stream(path))
        return grpc.unary_unary_rpc_method_handler(self._unary(path))

    def _fault(self, name: str) -> Fault | None:
        self.calls[name] += 1
        return self.faults[name].popleft() if self.faults[name] else None

    def _unary(self, path: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        name = path.rpartition("/")[2]
        call: grpc.UnaryUnaryMultiCallable[bytes, Any] = self._target.unary_unary(path)

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.requests[name].append(request)
            fault = self._fault(name)
            if fault and fault.kind == "lose request":
                context.abort(fault.code, "the request was lost on purpose")
            if fault and fault.kind == "refuse":
                details = fault.status.SerializeToString()
                context.set_trailing_metadata((("grpc-status-details-bin", details),))
                context.abort(fault.code, "refused on purpose")
            try:
                reply: bytes = call(request, timeout=5)
            except grpc.RpcError as error:
                forward(error, context)
            if fault:
                self._fail(fault, context)
            return reply

        return handle

    def _stream(
        self, path: str
    ) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
        call: grpc.StreamStreamMultiCallable[bytes, Any] = self._target.stream_stream(path)

        def handle(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            fault = self._fault("StreamSteps")
            if fault and fault.kind == "lose request":
                context.abort(fault.code, "the requests were lost on purpose")
            upstream: Any = call(self._noted(requests))
            context.add_callback(upstream.cancel)
            try:
                for index, reply in enumerate(upstream):
                    if fault and fault.kind == "refuse" and index == fault.after:
                        refusal = session_service_pb2.StreamStepsResponse(error=fault.status)
                        yield refusal.SerializeToString()
                        return
                    if fault and index >= fault.after:
                        self._fail(fault, context)
                        return
                    yield reply
            except grpc.RpcError as error:
                forward(error, context)

        return handle

    def _noted(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        # When the caller goes, so does the iterator, by an error of no type.
        with contextlib.suppress(Exception):
            for request in requests:
                self.requests["StreamSteps"].append(request)
                yield request

    def _fail(self, fault: Fault, context: grpc.ServicerContext) -> None:
        if fault.kind == "stall":
            gone = threading.Event()
            if context.add_callback(gone.set):
                while not gone.wait(0.05) and not self._ended.is_set():
                    pass
        else:
            context.abort(fault.code, "the reply was lost on purpose")


def forward(error: Any, context: grpc.ServicerContext) -> None:
    """Ends the caller's call as the server ended ours."""
    context.set_trailing_metadata(error.trailing_metadata() or ())
    context.abort(error.code(), error.details())

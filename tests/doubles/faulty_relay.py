"""A server that passes everything on to another one, and breaks the contract in one way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import TYPE_CHECKING, Any, Literal, get_args

import grpc
from google.rpc import error_details_pb2, status_pb2

from tickcell.v1 import session_service_pb2 as pb

if TYPE_CHECKING:
    from typing import Self

RelayFault = Literal["applies a step twice", "has a short window", "says a wrong reason"]
RELAY_FAULTS: tuple[RelayFault, ...] = get_args(RelayFault)

_SESSIONS = "/tickcell.v1.SessionService/"
_STREAMS = {f"{_SESSIONS}StreamSteps"}
_STATUS_KEY = "grpc-status-details-bin"
_PATIENCE_S = 60.0
# Now and then, so that every caller sees right answers first.
_PERIOD = 7


class FaultyRelay(grpc.GenericRpcHandler):
    """Serves until it is left.

    "applies a step twice": now and then a unary step runs once more as whatever comes next;
    "has a short window": it keeps a step less than it says; "says a wrong reason": what is a
    gap, it calls stale.

    Attributes:
      address: where.
    """

    def __init__(self, upstream: str, fault: RelayFault) -> None:
        self._fault = fault
        self._step_count = 0
        self._channel = grpc.insecure_channel(upstream, [("grpc.use_local_subchannel_pool", 1)])
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers([self])
        self.address = f"localhost:{self._server.add_insecure_port('localhost:0')}"
        self._server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait(_PATIENCE_S)
        self._channel.close()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        method: str = details.method
        if method in _STREAMS:
            return grpc.stream_stream_rpc_method_handler(self._stream(method))
        return grpc.unary_unary_rpc_method_handler(self._unary(method))

    def _unary(self, method: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        call: Any = self._channel.unary_unary(method)

        def relay(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                if method == f"{_SESSIONS}CreateSession":
                    return self._created(call, request)
                answer: bytes = call(request, timeout=_PATIENCE_S)
            except grpc.RpcError as error:
                self._abort(error, context)
            if method == f"{_SESSIONS}StepSession":
                self._step_again(call, request)
            return answer

        return relay

    def _stream(self, method: str) -> Callable[[Iterator[bytes], Any], Iterator[bytes]]:
        call: Any = self._channel.stream_stream(method)

        def relay(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            try:
                for encoded in call(_until_cancelled(requests), timeout=_PATIENCE_S):
                    response = pb.StreamStepsResponse.FromString(encoded)
                    if response.HasField("error"):
                        self._spoil(response.error)
                    yield response.SerializeToString()
            except grpc.RpcError as error:
                self._abort(error, context)

        return relay

    def _created(self, call: Any, encoded: bytes) -> bytes:
        """Creates a session with a step less in its window than it says."""
        is_short = self._fault == "has a short window"
        try:
            request = pb.CreateSessionRequest.FromString(encoded)
        except Exception:  # noqa: BLE001 - bytes that are no message are for the server to refuse
            is_short = False
        if not is_short or request.window_step_count < 2:
            answer: bytes = call(encoded, timeout=_PATIENCE_S)
            return answer
        request.window_step_count -= 1
        created = call(request.SerializeToString(), timeout=_PATIENCE_S)
        response = pb.CreateSessionResponse.FromString(created)
        response.session.window_step_count += 1
        response.session.max_step_count += 1
        return response.SerializeToString()

    def _step_again(self, call: Any, encoded: bytes) -> None:
        self._step_count += 1
        if self._fault == "applies a step twice" and self._step_count % _PERIOD == 0:
            request = pb.StepSessionRequest.FromString(encoded)
            request.ClearField("generation")
            request.ClearField("first_step")
            # Where it is refused, nothing was applied twice.
            with contextlib.suppress(grpc.RpcError):
                call(request.SerializeToString(), timeout=_PATIENCE_S)

    def _abort(self, error: Any, context: grpc.ServicerContext) -> None:
        metadata = dict(error.trailing_metadata() or ())
        if _STATUS_KEY in metadata:
            status = status_pb2.Status.FromString(metadata[_STATUS_KEY])
            self._spoil(status)
            context.set_trailing_metadata(((_STATUS_KEY, status.SerializeToString()),))
        context.abort(error.code(), error.details())

    def _spoil(self, status: status_pb2.Status) -> None:
        info = error_details_pb2.ErrorInfo()
        if self._fault == "says a wrong reason" and status.details[0].Unpack(info):
            if info.reason == "STEP_GAP":
                info.reason = "STEP_STALE"
                start = max(0, int(info.metadata["next_step"]) - 1)
                info.metadata["window_start_step"] = str(start)
            status.details[0].Pack(info)


def _until_cancelled(requests: Iterator[bytes]) -> Iterator[bytes]:
    # A caller that leaves ends its requests with an error, which gRPC would log.
    with contextlib.suppress(grpc.RpcError):
        yield from requests

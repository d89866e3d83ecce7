"""A caller that speaks the raw protocol, and is strict about how it is refused."""

from __future__ import annotations

import contextlib
import queue
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from protocol import documented
from tickcell.v1 import error_reason_pb2, model_service_pb2_grpc, session_service_pb2_grpc
from tickcell.v1 import session_service_pb2 as pb

if TYPE_CHECKING:
    from typing import Self

# Longer than any call takes on a loaded machine, so that a hang is a failure.
PATIENCE_S = 30.0

# The table of reasons, as error_reason.proto has it.
CODES = {
    "MALFORMED": "INVALID_ARGUMENT",
    "ARGUMENT_INVALID": "INVALID_ARGUMENT",
    "FRAME_SHAPE": "INVALID_ARGUMENT",
    "FRAME_NOT_FINITE": "INVALID_ARGUMENT",
    "FRAME_OUT_OF_RANGE": "INVALID_ARGUMENT",
    "SESSION_UNKNOWN": "NOT_FOUND",
    "SESSION_EXPIRED": "NOT_FOUND",
    "SESSION_DELETED": "NOT_FOUND",
    "SESSION_EXISTS": "ALREADY_EXISTS",
    "SESSION_RESTARTED": "ABORTED",
    "STEP_STALE": "OUT_OF_RANGE",
    "STEP_GAP": "OUT_OF_RANGE",
    "STEP_CONFLICT": "ABORTED",
    "MODEL_UNKNOWN": "NOT_FOUND",
    "MODEL_NOT_SERVED": "FAILED_PRECONDITION",
    "MODEL_BROKEN": "FAILED_PRECONDITION",
    "MODELS_UNCONTROLLED": "FAILED_PRECONDITION",
    "NUMERICS_CHANGED": "FAILED_PRECONDITION",
    "OUTPUT_NOT_FINITE": "FAILED_PRECONDITION",
    "STORE_FULL": "RESOURCE_EXHAUSTED",
    "SESSIONS_FULL": "RESOURCE_EXHAUSTED",
    "STREAMS_FULL": "RESOURCE_EXHAUSTED",
    "DRAINING": "UNAVAILABLE",
    "RECORD_DAMAGED": "DATA_LOSS",
    "RECORD_NEWER": "FAILED_PRECONDITION",
    "INTERNAL": "INTERNAL",
    "STORE_BUSY": "UNAVAILABLE",
    "STORE_AWAY": "UNAVAILABLE",
    "STORE_DAMAGED": "DATA_LOSS",
    "OUTCOME_UNKNOWN": "UNAVAILABLE",
    "CALLER_UNKNOWN": "UNAUTHENTICATED",
    "OPERATORS_ONLY": "PERMISSION_DENIED",
    "OWNER_SESSIONS_FULL": "RESOURCE_EXHAUSTED",
    "OWNER_RATE_EXCEEDED": "RESOURCE_EXHAUSTED",
}

_STATUS_KEY = "grpc-status-details-bin"
_STEP = "/tickcell.v1.SessionService/StepSession"
_STREAM = "/tickcell.v1.SessionService/StreamSteps"

# A number that stands alone, not one that is part of a name or an id.
_NUMBER = re.compile(r"(?<![\w.-])[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w-])")
# Those that no request changes: bounds of the contract, and the lowest of a range.
_CONSTANTS = {0.0, 1.0, 62.0}


class Refused(Exception):
    """A request was refused, as the contract says that it must be.

    Attributes:
      reason: of the one ErrorInfo.
      code: the name of the status code.
      metadata: of the ErrorInfo.
      retry_s: after how long the request may succeed, where a RetryInfo says so.
    """

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        detail, *more = status.details
        assert detail.Unpack(info)
        assert [each.Unpack(retry) for each in more] in ([], [True])
        self.retry_s = retry.retry_delay.ToTimedelta().total_seconds() if more else None
        assert info.domain == "tickcell"
        self.reason = info.reason
        self.code = code_pb2.Code.Name(status.code)
        self.metadata = dict(info.metadata)
        assert f"ERROR_REASON_{self.reason}" in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118
        assert self.code == CODES[self.reason]
        documented.check(self.reason, {*self.metadata})
        told = self.metadata.get("retry_s")
        assert self.retry_s == (None if told is None else float(told))
        assert status.message
        for number in _NUMBER.findall(self._unquoted(status.message)):
            assert self._knows(float(number)), f"{number} of {status.message!r}: {self.metadata}"

    def _unquoted(self, message: str) -> str:
        """Returns the message without what the caller wrote itself."""
        texts = [value for value in self.metadata.values() if not _NUMBER.fullmatch(value)]
        for text in sorted(texts, key=len, reverse=True):
            message = message.replace(text, " ") if text else message
        return re.sub(r"'[^']*'", " ", message)

    def _knows(self, number: float) -> bool:
        """Says whether the metadata has the number, or one that rounds to it."""
        if number in _CONSTANTS:
            return True
        known = [float(value) for value in self.metadata.values() if _NUMBER.fullmatch(value)]
        return any(abs(number - value) <= 1e-5 * abs(value) for value in known)


class _Shown(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Shows an authorization with each call."""

    def __init__(self, authorization: str) -> None:
        self._metadata = [("authorization", authorization)]

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with(details), request)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(self._with(details), requests)

    def _with(self, details: Any) -> Any:
        return details._replace(metadata=[*(details.metadata or ()), *self._metadata])


class Caller:
    """One connection to a server."""

    def __init__(
        self,
        address: str,
        *options: tuple[str, int],
        credentials: grpc.ChannelCredentials | None = None,
        authorization: str = "",
    ) -> None:
        """Prepares it.

        Args:
          address: of the server.
          *options: gRPC's own.
          credentials: for TLS; None for plain text.
          authorization: what each call shows.
        """
        # Else channels of one process share connections, and their fate.
        own = [("grpc.use_local_subchannel_pool", 1), *options]
        self._opened = (
            grpc.insecure_channel(address, own)
            if credentials is None
            else grpc.secure_channel(address, credentials, own)
        )
        self.channel = self._opened
        if authorization:
            self.channel = grpc.intercept_channel(self._opened, _Shown(authorization))
        self.sessions = session_service_pb2_grpc.SessionServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def call(self, method: Any, request: Message | bytes) -> Any:
        """Calls a method of one of the two stubs; raises Refused."""
        try:
            return method(request, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            raise refusal(error) from error

    def create(self, **fields: Any) -> pb.Session:
        session: pb.Session = self.call(
            self.sessions.CreateSession, pb.CreateSessionRequest(**fields)
        ).session
        return session

    def get(self, session: str) -> pb.Session:
        found: pb.Session = self.call(
            self.sessions.GetSession, pb.GetSessionRequest(session=session)
        ).session
        return found

    def touch(self, session: str, generation: int) -> pb.Session:
        request = pb.TouchSessionRequest(session=session, generation=generation)
        touched: pb.Session = self.call(self.sessions.TouchSession, request).session
        return touched

    def reset(self, session: str, generation: int, request_id: str) -> pb.Session:
        request = pb.ResetSessionRequest(
            session=session, generation=generation, request_id=request_id
        )
        started: pb.Session = self.call(self.sessions.ResetSession, request).session
        return started

    def delete(self, session: str, generation: int) -> None:
        request = pb.DeleteSessionRequest(session=session, generation=generation)
        self.call(self.sessions.DeleteSession, request)


class UnaryPath:
    """Sends steps by StepSession, each a call of its own."""

    request_class = pb.StepSessionRequest

    def __init__(self, caller: Caller) -> None:
        self._method: Any = caller.channel.unary_unary(_STEP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, encoded: bytes) -> pb.StepSessionResponse:
        """Sends a request as bytes; returns the response, or raises Refused."""
        try:
            answered = self._method(encoded, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            raise refusal(error) from error
        return pb.StepSessionResponse.FromString(answered)


class StreamPath:
    """Sends steps over one StreamSteps, from its creation to its end."""

    request_class = pb.StreamStepsRequest

    def __init__(self, caller: Caller) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        method: Any = caller.channel.stream_stream(_STREAM)
        self.call = method(self._outgoing(), timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.call.cancel()
        self.half_close()

    def send(self, encoded: bytes) -> pb.StreamStepsResponse:
        """Sends a request as bytes; returns the response to it, or raises Refused."""
        self.post(encoded)
        return self.receive()

    def post(self, encoded: bytes) -> None:
        """Sends a request, and does not wait for the response."""
        self._requests.put(encoded)

    def receive(self) -> pb.StreamStepsResponse:
        """Waits for the next response; raises Refused, also where the stream ended so."""
        try:
            response = pb.StreamStepsResponse.FromString(next(self.call))
        except grpc.RpcError as error:
            raise refusal(error) from error
        if response.HasField("error"):
            assert not response.outputs
            assert not response.step_count
            raise Refused(response.error)
        return response

    def half_close(self) -> None:
        """Says that no more requests come."""
        self._requests.put(None)

    def ends(self) -> bool:
        """Waits for what comes next; says whether that is the stream's good end."""
        return next(self.call, None) is None and self.call.code() is grpc.StatusCode.OK

    def _outgoing(self) -> Iterator[bytes]:
        while (encoded := self._requests.get()) is not None:
            yield encoded


Path = UnaryPath | StreamPath
PATHS: dict[str, type[UnaryPath] | type[StreamPath]] = {"unary": UnaryPath, "stream": StreamPath}


def refusal(error: grpc.RpcError) -> Exception:
    """Returns a failed call as the refusal that it is, or as itself if it is none."""
    metadata: Any = error.trailing_metadata() or ()
    details = [value for key, value in metadata if key == _STATUS_KEY]
    if not details:
        return error
    (encoded,) = details
    status = status_pb2.Status.FromString(encoded)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    return Refused(status)


@contextlib.contextmanager
def refused_for(reason: str) -> Iterator[dict[str, str]]:
    """Expects a refusal, and fills in its metadata."""
    metadata: dict[str, str] = {}
    with pytest.raises(Refused) as caught:
        yield metadata
    assert caught.value.reason == reason, caught.value
    metadata.update(caught.value.metadata)

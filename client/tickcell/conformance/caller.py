"""A caller that speaks the raw protocol, and is strict about how it is refused."""

from __future__ import annotations

import collections
import contextlib
import queue
import re
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from tickcell import wire
from tickcell.conformance import documented
from tickcell.conformance.expectation import Unmet, hold, shown
from tickcell.v1 import model_service_pb2_grpc, session_service_pb2_grpc
from tickcell.v1 import session_service_pb2 as pb

if TYPE_CHECKING:
    from typing import Self

# protoc gives its stubs no types.
_session_stub: Any = session_service_pb2_grpc.SessionServiceStub
_model_stub: Any = model_service_pb2_grpc.ModelServiceStub

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
    "SESSION_MOVED": "NOT_FOUND",
    "SESSION_EXISTS": "ALREADY_EXISTS",
    "SESSION_RESTARTED": "ABORTED",
    "SESSION_CLAIMED": "ABORTED",
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
    "EXPORT_NEWER": "FAILED_PRECONDITION",
    "EXPORT_REFUSED": "FAILED_PRECONDITION",
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

# Refusals that are about the caller or the server's room, whatever is asked for.
HINDRANCES = {
    "CALLER_UNKNOWN",
    "DRAINING",
    "OWNER_RATE_EXCEEDED",
    "OWNER_SESSIONS_FULL",
    "SESSIONS_FULL",
    "STORE_AWAY",
    "STORE_BUSY",
    "STORE_DAMAGED",
    "STORE_FULL",
    "STREAMS_FULL",
}

# In characters; what is longer names no session.
_LONGEST_ID = 63
_STATUS_KEY = "grpc-status-details-bin"
_STEP = "/tickcell.v1.SessionService/StepSession"
_STREAM = "/tickcell.v1.SessionService/StreamSteps"
_TOGETHER = "/tickcell.v1.SessionService/StepSessions"

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
        first, more = status.details[:1], status.details[1:]
        unpacked = [each.Unpack(info) for each in first], [each.Unpack(retry) for each in more]
        if unpacked not in (([True], []), ([True], [True])):
            got = f"the details {[each.type_url for each in status.details]}"
            raise Unmet(got, "one ErrorInfo, perhaps with one RetryInfo", 10)
        hold(info.domain, "tickcell", "the ErrorInfo's domain", 10)
        self.retry_s = retry.retry_delay.ToTimedelta().total_seconds() if more else None
        self.reason = info.reason
        self.code = code_pb2.Code.Name(status.code)
        self.metadata = dict(info.metadata)
        if self.reason not in CODES:
            raise Unmet(f"the reason {self.reason!r}", "one of error_reason.proto", 10)
        hold(self.code, CODES[self.reason], f"the status code of {self.reason}:", 10)
        documented.check(self.reason, {*self.metadata})
        told = self.metadata.get("retry_s")
        hold(self.retry_s, None if told is None else float(told), "seconds of RetryInfo:", 10)
        hold(bool(status.message), True, "a message:", 10)
        for number in _NUMBER.findall(self._unquoted(status.message)):
            if not self._knows(float(number)):
                got = f"{status.message!r}, and {number} is not in its metadata"
                raise Unmet(got, "every number of the message as metadata", 10)

    @property
    def summary(self) -> str:
        """The reason and the message."""
        return f"the refusal {self.reason}, {str(self)!r}"

    def hold(self, reason: str) -> None:
        """Raises Unmet unless it is for a reason; itself where the server lets nobody in."""
        if self.reason in HINDRANCES - {reason}:
            raise self
        if self.reason != reason:
            raise Unmet(self.summary, f"the refusal {reason}")

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
    """One connection to a server.

    Attributes:
      sent: the last request of which an answer was awaited, for people.
      created: the ids of sessions that it created, or may have, and has not deleted.
    """

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
        self._speak(
            grpc.insecure_channel(address, own)
            if credentials is None
            else grpc.secure_channel(address, credentials, own),
            authorization,
        )

    @classmethod
    def over(cls, channel: grpc.Channel, authorization: str = "") -> Self:
        """Returns a caller over a channel that is open already, and now the caller's to close."""
        caller = cls.__new__(cls)
        caller._speak(channel, authorization)
        return caller

    def _speak(self, opened: grpc.Channel, authorization: str) -> None:
        self.sent: Message | bytes = b""
        self.created: dict[str, None] = {}
        self._opened = self.channel = opened
        if authorization:
            self.channel = grpc.intercept_channel(self._opened, _Shown(authorization))
        self.sessions = _session_stub(self.channel)
        self.models = _model_stub(self.channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def call(self, method: Any, request: Message | bytes) -> Any:
        """Calls a method of one of the two stubs; raises Refused."""
        self.sent = request
        try:
            return method(request, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            raise refusal(error) from error

    def create(self, **fields: Any) -> pb.Session:
        request = pb.CreateSessionRequest(**fields)
        # Before the call: it may create the session, and never be answered.
        asked = request.session or request.request_id.lower()
        is_new = 0 < len(asked) <= _LONGEST_ID and asked not in self.created
        if is_new:
            self.created[asked] = None
        try:
            session: pb.Session = self.call(self.sessions.CreateSession, request).session
        except Refused:
            if is_new:
                del self.created[asked]
            raise
        self.created[session.id] = None
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

    def claim(self, session: str, generation: int, request_id: str = "", **fields: Any) -> Any:
        """Claims a session; returns it."""
        request = pb.ClaimSessionRequest(
            session=session,
            generation=generation,
            request_id=request_id or str(uuid.uuid4()),
            **fields,
        )
        return self.call(self.sessions.ClaimSession, request).session

    def fork(self, source: str, generation: int, **fields: Any) -> pb.Session:
        """Forks a session; returns the fork."""
        given = {"request_id": str(uuid.uuid4()), **fields}
        request = pb.ForkSessionRequest(source=source, source_generation=generation, **given)
        forked: pb.Session = self.call(self.sessions.ForkSession, request).session
        self.created[forked.id] = None
        return forked

    def export(self, session: str, generation: int, **fields: Any) -> pb.SessionExport:
        request = pb.ExportSessionRequest(session=session, generation=generation, **fields)
        exported: pb.SessionExport = self.call(self.sessions.ExportSession, request).export
        return exported

    def preview(self, session: str, generation: int, **fields: Any) -> pb.PreviewStepsResponse:
        request = pb.PreviewStepsRequest(session=session, generation=generation, **fields)
        answered: pb.PreviewStepsResponse = self.call(self.sessions.PreviewSteps, request)
        return answered

    def outputs(self, session: str, generation: int, **fields: Any) -> pb.GetOutputsResponse:
        request = pb.GetOutputsRequest(session=session, generation=generation, **fields)
        answered: pb.GetOutputsResponse = self.call(self.sessions.GetOutputs, request)
        return answered

    def delete(self, session: str, generation: int) -> None:
        request = pb.DeleteSessionRequest(session=session, generation=generation)
        self.call(self.sessions.DeleteSession, request)
        self.created.pop(session, None)

    def clear(self) -> dict[str, str]:
        """Deletes what is left of the sessions that it created; returns why not, by id."""
        failures = {}
        for session in [*self.created]:
            try:
                self.delete(session, self.get(session).generation)
            except Refused as refusal:
                if refusal.code == "NOT_FOUND":
                    del self.created[session]
                else:
                    failures[session] = refusal.summary
            except Unmet as unmet:
                failures[session] = str(unmet)
            except grpc.RpcError as error:
                failures[session] = told(error)
        return failures


class UnaryPath:
    """Sends steps by StepSession, each a call of its own."""

    request_class = pb.StepSessionRequest

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._method: Any = caller.channel.unary_unary(_STEP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, encoded: bytes) -> pb.StepSessionResponse:
        """Sends a request as bytes; returns the response, or raises Refused."""
        self._caller.sent = read(self.request_class, encoded)
        try:
            answered = self._method(encoded, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            raise refusal(error) from error
        return pb.StepSessionResponse.FromString(answered)


class StreamPath:
    """Sends steps over one StreamSteps, from its creation to its end."""

    request_class = pb.StreamStepsRequest

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._unanswered: collections.deque[bytes] = collections.deque()
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
        self._unanswered.append(encoded)
        self._requests.put(encoded)

    def receive(self) -> pb.StreamStepsResponse:
        """Waits for the next response; raises Refused, also where the stream ended so."""
        if self._unanswered:
            self._caller.sent = read(self.request_class, self._unanswered.popleft())
        try:
            response = pb.StreamStepsResponse.FromString(next(self.call))
        except StopIteration:
            raise Unmet("the end of the stream", "a response to each request", 6) from None
        except grpc.RpcError as error:
            raise refusal(error) from error
        if response.HasField("error"):
            hold((len(response.outputs), response.step_count), (0, 0), "with an error, outputs", 4)
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


class TogetherPath:
    """Sends steps by StepSessions: several requests in a message, or one."""

    request_class = pb.StreamStepsRequest

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._method: Any = caller.channel.unary_unary(_TOGETHER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, encoded: bytes) -> pb.StreamStepsResponse:
        """Sends a request as bytes, alone; returns the response to it, or raises Refused."""
        (response,) = self.send_all([encoded])
        self._caller.sent = read(self.request_class, encoded)
        if response.HasField("error"):
            raise Refused(response.error)
        return response

    def send_all(self, encoded: Sequence[bytes]) -> list[pb.StreamStepsResponse]:
        """Sends requests as bytes in one message; returns the response to each.

        Raises:
          Refused: the call is refused.
        """
        message = wire.StepSessionsRequest(requests=encoded).SerializeToString()
        self._caller.sent = read(pb.StepSessionsRequest, message)
        try:
            answered = self._method(message, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            raise refusal(error) from error
        responses = [*pb.StepSessionsResponse.FromString(answered).responses]
        hold(len(responses), len(encoded), "number of responses", 6)
        for each in responses:
            if each.HasField("error"):
                hold((len(each.outputs), each.step_count), (0, 0), "with an error, outputs", 4)
        return responses


Path = UnaryPath | StreamPath | TogetherPath
PATHS: dict[str, type[Path]] = {
    "unary": UnaryPath,
    "stream": StreamPath,
    "together": TogetherPath,
}


def read(kind: type[Message], encoded: bytes) -> Message | bytes:
    """Returns bytes as the message that they are, or as themselves if they are none."""
    try:
        return kind.FromString(encoded)
    except DecodeError:
        return encoded


def told(error: Any) -> str:
    """Returns what gRPC says of a call that failed."""
    return f"{error.code().name}, {shown(error.details() or '')!r}"


def refusal(error: grpc.RpcError) -> Exception:
    """Returns a failed call as the refusal that it is, or as itself if it is none."""
    metadata: Any = error.trailing_metadata() or ()
    details = [value for key, value in metadata if key == _STATUS_KEY]
    if not details:
        return error
    hold(len(details), 1, f"trailers {_STATUS_KEY}:", 10)
    status = status_pb2.Status.FromString(details[0])
    hold(status.code, error.code().value[0], "the code in google.rpc.Status:", 10)
    hold(status.message, error.details(), "the message in google.rpc.Status:", 10)
    return Refused(status)


@contextlib.contextmanager
def refused_for(reason: str) -> Iterator[dict[str, str]]:
    """Expects a refusal, and fills in its metadata.

    Raises:
      Unmet: there is none, or one for another reason.
      Refused: the server has no place for the caller at all.
    """
    metadata: dict[str, str] = {}
    try:
        yield metadata
    except Refused as refusal:
        refusal.hold(reason)
        metadata.update(refusal.metadata)
    else:
        raise Unmet("no refusal", f"the refusal {reason}")

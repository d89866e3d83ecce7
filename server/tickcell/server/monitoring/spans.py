"""Spans of requests, for OpenTelemetry; made by hand, since its interceptor breaks our streams.

A span is a unary call, or one request of a stream: from when it has been read to when its
answer has been written. Its parent is the one that the call's metadata name, as W3C Trace
Context has it ("traceparent"); on a stream, all requests have that of the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tickcell.server.rules import StepRequest

if TYPE_CHECKING:
    from tickcell.server.calls import Handler
    from tickcell.server.errors import TickcellError
    from tickcell.server.rounds import Request

    Services = dict[str, dict[str, Handler]]
    _Behaviour = Callable[[Any, Any], Awaitable[Any]]
    _Begin = Callable[[Any], Callable[[], trace.Span]]

# What OpenTelemetry's conventions call errors of a server; the others are its callers'.
_FAULTS = {"DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN", "DATA_LOSS"}
# Asked by tools and probes, all the time: gRPC's own services, and two methods of another.
_UNTRACED_SERVICES = "grpc."
_UNTRACED_METHODS = {"ServerLive", "ServerReady"}
# A collector that does not answer must not hold up the end of a server.
_LAST_SPANS_S = 2.0
_CODE = "rpc.grpc.status_code"

_propagator = TraceContextTextMapPropagator()


class Spans:
    """Makes a span of each request, in which the observer tells what becomes of it."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        version = importlib.metadata.version("tickcell")
        self._tracer = provider.get_tracer("tickcell.server", version)

    @classmethod
    def sent(cls) -> Spans:
        """Sends spans by OTLP over gRPC, by the environment's OTEL_... variables."""
        version = importlib.metadata.version("tickcell")
        service = Resource({"service.name": "tickcell", "service.version": version})
        resource = service.merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def close(self) -> None:
        """Sends what is left, if that can be done soon."""
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(_LAST_SPANS_S)

    def traced(self, services: Services) -> Services:
        """Returns the methods of services, which trace their requests from now on.

        A method on a stream reads one request at a time from its context, and answers it
        before the next, or else asks for spans `apart`.
        """
        return {
            service: methods
            if service.startswith(_UNTRACED_SERVICES)
            else {
                method: handler
                if method in _UNTRACED_METHODS
                else self._traced(service, method, handler)
                for method, handler in methods.items()
            }
            for service, methods in services.items()
        }

    def apart(self, context: Any) -> Callable[[], contextlib.AbstractContextManager[None]]:
        """Returns what makes a request of a stream the current span while it is answered.

        It is for methods that answer several requests of a stream together, each in its
        task; what they read and write makes no spans any more.
        """
        traced: _StreamContext = context
        return traced.apart()

    def describe(self, request: Request) -> None:
        """Notes on the current span what is asked."""
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attribute("tickcell.session", request.key.session)
            if isinstance(request, StepRequest):
                span.set_attribute("tickcell.step_count", request.step_count)
                if request.first_step is not None:
                    span.set_attribute("tickcell.first_step", request.first_step)

    def describe_several(self, requests: Sequence[StepRequest]) -> None:
        """Notes on the current span how much is asked by one call."""
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attribute("tickcell.request_count", len(requests))
            span.set_attribute("tickcell.step_count", sum(each.step_count for each in requests))

    def refuse_one(self, error: TickcellError) -> None:
        """Notes on the current span that one of its requests is answered with an error."""
        event = {"error.type": error.reason, "exception.message": str(error)}
        trace.get_current_span().add_event("tickcell.refused", event)

    def refuse(self, error: TickcellError) -> None:
        """Notes on the current span that it is answered with an error."""
        span = trace.get_current_span()
        span.set_attribute(_CODE, grpc.StatusCode[error.code].value[0])
        span.set_attribute("error.type", error.reason)
        if error.code in _FAULTS:
            span.set_status(trace.StatusCode.ERROR, str(error))

    def _traced(self, service: str, method: str, handler: Handler) -> Handler:
        def begin(context: Any) -> Callable[[], trace.Span]:
            metadata = context.invocation_metadata() or ()
            carrier = {name: value for name, value in metadata if isinstance(value, str)}
            parent = _propagator.extract(carrier)
            attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
            return lambda: self._tracer.start_span(
                f"{service}/{method}", parent, trace.SpanKind.SERVER, {**attributes, _CODE: 0}
            )

        # gRPC's types know synchronous handlers only.
        unary: Any = handler.unary_unary
        stream: Any = handler.stream_stream
        if unary is not None:
            return grpc.unary_unary_rpc_method_handler(_unary(unary, begin))
        if inspect.iscoroutinefunction(stream):
            return grpc.stream_stream_rpc_method_handler(_stream(stream, begin))
        return handler


def _unary(behaviour: _Behaviour, begin: _Begin) -> _Behaviour:
    async def call(encoded: bytes, context: Any) -> Any:
        with _current(begin(context)()):
            return await behaviour(encoded, context)

    return call


def _stream(behaviour: _Behaviour, begin: _Begin) -> _Behaviour:
    async def call(requests: Any, context: Any) -> None:
        with contextlib.ExitStack() as span:
            await behaviour(requests, _StreamContext(context, begin(context), span))

    return call


class _StreamContext:
    """A stream's context, of which each request that is read begins a span."""

    def __init__(
        self, context: Any, begin: Callable[[], trace.Span], span: contextlib.ExitStack
    ) -> None:
        self._context = context
        self._begin = begin
        self._span = span
        self._is_apart = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def apart(self) -> Callable[[], contextlib.AbstractContextManager[None]]:
        self._is_apart = True
        return lambda: _current(self._begin())

    async def read(self) -> Any:
        self._span.close()
        encoded = await self._context.read()
        if encoded is not grpc.aio.EOF and not self._is_apart:
            self._span.enter_context(_current(self._begin()))
        return encoded

    async def write(self, message: bytes) -> None:
        await self._context.write(message)
        self._span.close()


@contextlib.contextmanager
def _current(span: trace.Span) -> Iterator[None]:
    """Makes a span the current one of this task, and ends it at the end."""
    token = contexts.attach(trace.set_span_in_context(span))
    try:
        yield
    except asyncio.CancelledError:
        span.set_attribute(_CODE, grpc.StatusCode.CANCELLED.value[0])
        raise
    finally:
        contexts.detach(token)
        span.end()

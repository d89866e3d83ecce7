"""The methods that infer: ModelInfer and ModelStreamInfer."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from typing import TYPE_CHECKING, Any

import grpc

from tickcell.server import calls, errors
from tickcell.server.oip import asked as asked_module
from tickcell.server.oip import refusals
from tickcell.server.oip.protocol import pb

if TYPE_CHECKING:
    from google.rpc import status_pb2

    from tickcell.server.caller import Caller
    from tickcell.server.engine import Engine
    from tickcell.server.oip.asked import Asked
    from tickcell.server.oip.sequences import Sequences
    from tickcell.server.oip.statistics import Statistics
    from tickcell.server.streams import Stream, Streams

# To parse more than this takes long enough to wait for its turn.
_LONG_BYTES = 64 * 1024

# With this header, a stream ends with the status of its first refusal.
_ERROR_HEADER = "triton_grpc_error"

_log = logging.getLogger(__name__)


class _Refused(Exception):
    """A request was refused.

    Attributes:
      error: why.
      request_id: the request's; "" for none.
      status: the refusal as it goes over the wire.
    """

    def __init__(
        self, error: errors.TickcellError, request_id: str, status: status_pb2.Status
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.request_id = request_id
        self.status = status


class InferServicer:
    """Takes inference requests to their sequences, and brings the responses back.

    Of each stream one request is read at a time, and answered before the next.
    """

    def __init__(
        self,
        gate: calls.Gate,
        engine: Engine,
        sequences: Sequences,
        statistics: Statistics,
        streams: Streams,
    ) -> None:
        self._gate = gate
        self._engine = engine
        self._sequences = sequences
        self._statistics = statistics
        self._streams = streams

    def methods(self) -> dict[str, calls.Handler]:
        """Returns the methods' handlers by name."""
        return {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self._infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._stream),
        }

    async def _infer(self, encoded: bytes, context: calls.Context) -> bytes:
        try:
            caller = self._gate.admit(context)
        except errors.TickcellError as error:
            await self._gate.refuse(context, error)
        response = pb.ModelInferResponse()
        try:
            await self._answer(caller, encoded, response, is_stream=False)
        except _Refused as refused:
            await self._gate.refuse(context, refused.error, refused.status)
        answered: bytes = response.SerializeToString()
        return answered

    async def _stream(self, _: object, context: calls.Context) -> None:
        try:
            with self._streams.opened(context) as stream:
                await self._answer_all(stream)
        except errors.TickcellError as error:
            await self._gate.refuse(context, error)
        except _Refused as refused:
            await self._gate.refuse(context, refused.error, refused.status)

    async def _answer_all(self, stream: Stream) -> None:
        """Answers the requests of a stream, in order.

        Raises:
          TickcellError: the stream is to end for this.
          _Refused: one was refused, and the stream's header says that it ends with that.
        """
        caller, context = stream.caller, stream.context
        ends_refused = (_ERROR_HEADER, "true") in [*(context.invocation_metadata() or ())]
        while stream.end is None:
            stream.is_idle = True
            try:
                encoded: Any = await context.read()
            except asyncio.CancelledError:
                if stream.end is None:
                    raise
                stream.uncancel()
                break
            stream.is_idle = False
            if encoded is grpc.aio.EOF:
                return
            response = pb.ModelStreamInferResponse()
            try:
                await self._answer(caller, encoded, response.infer_response, is_stream=True)
            except _Refused as refused:
                if ends_refused:
                    raise
                self._engine.observer.refused(refused.error)
                response = pb.ModelStreamInferResponse(error_message=refused.status.message)
                response.infer_response.id = refused.request_id
            encoded = None
            await context.write(response.SerializeToString())
        assert stream.end is not None
        raise stream.end

    async def _answer(
        self, caller: Caller, encoded: bytes, response: Any, *, is_stream: bool
    ) -> None:
        """Answers one request.

        Args:
          caller: who asks.
          encoded: the request.
          response: the message to fill.
          is_stream: whether it came in a stream.

        Raises:
          _Refused: it was refused.
        """
        start_ns = time.perf_counter_ns()
        message: Any = None
        asked: Asked | None = None
        try:
            message = await self._parse(encoded)
            asked = asked_module.read(message)
            inferred = await self._sequences.infer(caller, asked, message)
            done_ns = time.perf_counter_ns()
            inferred.version.layout.fill(
                response, inferred.stepped.outputs, inferred.frames, inferred.ports
            )
            response.id = message.id
            if is_stream and asked.wants_final:
                response.parameters["triton_final_response"].bool_param = True
            self._statistics.count_success(inferred, start_ns, done_ns)
        except errors.TickcellError as error:
            raise self._refused(error, caller, message, asked, start_ns) from error
        except Exception as error:
            _log.exception("ModelInfer failed")
            internal = errors.internal("ModelInferRequest")
            raise self._refused(internal, caller, message, asked, start_ns) from error

    def _refused(
        self,
        error: errors.TickcellError,
        caller: Caller,
        message: Any,
        asked: Asked | None,
        start_ns: int,
    ) -> _Refused:
        version = None if asked is None else self._sequences.version_of(caller, asked)
        if version is not None:
            self._statistics.count_failure(version.place, start_ns)
        request_id = "" if message is None else message.id
        return _Refused(error, request_id, refusals.status(error, request_id, caller, asked))

    async def _parse(self, encoded: bytes) -> Any:
        """Parses a request, a long one in a slice of its own."""
        parse = functools.partial(calls.parse, pb.ModelInferRequest, encoded)
        return parse() if len(encoded) <= _LONG_BYTES else await self._engine.in_slice(parse)

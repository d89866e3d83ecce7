"""The methods that infer: ModelInfer and ModelStreamInfer."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from typing import TYPE_CHECKING, Any

import grpc

from tickcell.server import calls, errors
from tickcell.server.oip import asked, refusals
from tickcell.server.oip.forms import Form, Forms, Said
from tickcell.server.oip.protocol import pb
from tickcell.server.oip.read_ahead import Read, ReadAhead

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Coroutine

    from google.rpc import status_pb2

    from tickcell.server.caller import Caller
    from tickcell.server.engine import Engine
    from tickcell.server.oip.identity import Sequence
    from tickcell.server.oip.sequences import Sequences
    from tickcell.server.oip.statistics import Statistics
    from tickcell.server.streams import Stream, Streams

    _Answer = Callable[[Read], Coroutine[Any, Any, bytes]]

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

    Of a stream of several sequences some requests are read ahead. Those of different
    sequences are answered together, those of one sequence one after the other, and answers
    go out in order.
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
        self._forms = Forms()

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
            await self._answer(caller, await self._read(encoded), response, is_stream=False)
        except _Refused as refused:
            await self._gate.refuse(context, refused.error, refused.status)
        answered: bytes = response.SerializeToString()
        return answered

    async def _stream(self, _: object, context: calls.Context) -> None:
        try:
            with self._streams.opened(context) as stream:
                await self._serve(stream)
        except errors.TickcellError as error:
            await self._gate.refuse(context, error)
        except _Refused as refused:
            await self._gate.refuse(context, refused.error, refused.status)

    async def _serve(self, stream: Stream) -> None:
        """Reads and answers the requests of a stream until it ends.

        Raises:
          TickcellError: the stream is to end for this.
          _Refused: one was refused, and the stream's header says that it ends with that.
        """
        context = stream.context
        ends_refused = (_ERROR_HEADER, "true") in [*(context.invocation_metadata() or ())]
        answer: _Answer = functools.partial(
            self._answer_in_stream, stream.caller, ends_refused=ends_refused
        )
        spans = self._engine.observer.spans
        if spans is not None:
            answer = _traced(answer, spans.apart(context))
        ahead = ReadAhead()
        answering = asyncio.create_task(self._answer_ahead(stream, ahead, answer))
        try:
            # Nothing behind a refusal that ends the stream may be applied.
            await self._read_all(stream, ahead, answer, reads_ahead=not ends_refused)
            ahead.end()
            await answering
        finally:
            answering.cancel()
            # Nothing of it outlives the stream.
            await asyncio.gather(answering, return_exceptions=True)
        if stream.end is not None:
            raise stream.end

    async def _read_all(
        self, stream: Stream, ahead: ReadAhead, answer: _Answer, *, reads_ahead: bool
    ) -> None:
        """Reads the requests of a stream until it is to end.

        Where one sequence steps on and on there is nothing to answer together, and each
        request is answered here before the next is read, which is cheaper.

        Raises:
          _Refused: see `_serve`.
        """
        last: Sequence | None = None
        while stream.end is None:
            if len(ahead):
                await ahead.room()
                if stream.end is not None:
                    return
            stream.is_idle = True
            try:
                encoded: Any = await stream.context.read()
            except asyncio.CancelledError:
                if stream.end is None:
                    raise
                stream.uncancel()
                return
            stream.is_idle = False
            if encoded is grpc.aio.EOF:
                return
            read = await self._read(encoded)
            encoded = None
            if reads_ahead and (len(ahead) or read.sequence != last):
                ahead.add(read)
            else:
                await stream.context.write(await answer(read))
            last = read.sequence

    async def _answer_ahead(self, stream: Stream, ahead: ReadAhead, answer: _Answer) -> None:
        """Answers what is read ahead of a stream, in order."""
        try:
            while reads := await ahead.take():
                if len(reads) == 1:
                    await stream.context.write(await answer(reads[0]))
                    ahead.answered(reads[0])
                    continue
                answers = [asyncio.create_task(answer(read)) for read in reads]
                try:
                    for read, answered in zip(reads, answers, strict=True):
                        await stream.context.write(await answered)
                        ahead.answered(read)
                finally:
                    for answered in answers:
                        answered.cancel()
        except Exception:
            # Its reader is to stop, and finds the reason here.
            stream.finish(errors.internal("ModelStreamInfer"))
            ahead.abandon()
            raise

    async def _answer_in_stream(self, caller: Caller, read: Read, *, ends_refused: bool) -> bytes:
        """Returns the response to a request of a stream, which may be its refusal.

        Raises:
          _Refused: it was refused, and that is to end its stream.
        """
        response = pb.ModelStreamInferResponse()
        try:
            await self._answer(caller, read, response.infer_response, is_stream=True)
        except _Refused as refused:
            observer = self._engine.observer
            if ends_refused:
                # It is counted where the stream ends.
                if observer.spans is not None:
                    observer.spans.refuse(refused.error)
                raise
            observer.refused(refused.error)
            response = pb.ModelStreamInferResponse(error_message=refused.status.message)
            response.infer_response.id = refused.request_id
        encoded: bytes = response.SerializeToString()
        return encoded

    async def _read(self, encoded: bytes) -> Read:
        """Reads a request; what is wrong with it is told when it is answered."""
        start_ns = time.perf_counter_ns()
        found = self._forms.find(encoded)
        if found is not None:
            return Read(len(encoded), start_ns, time.perf_counter_ns(), *found, None)
        request_id = ""
        said: Said | None = None
        error: errors.TickcellError | None = None
        try:
            message = await self._parse(encoded)
            request_id, raw = message.id, tuple(message.raw_input_contents)
            message.ClearField("id")
            message.ClearField("raw_input_contents")
            said = Said(Form(asked.read(message), message), raw)
            self._forms.remember(encoded, said)
        except errors.TickcellError as refusal:
            error = refusal
        except Exception:  # noqa: BLE001 - the edge: logged here, answered in its place.
            _log.exception("a ModelInferRequest could not be read")
            error = errors.internal("ModelInferRequest")
        return Read(len(encoded), start_ns, time.perf_counter_ns(), request_id, said, error)

    async def _answer(self, caller: Caller, read: Read, response: Any, *, is_stream: bool) -> None:
        """Answers one request.

        Args:
          caller: who asks.
          read: the request.
          response: the message to fill.
          is_stream: whether it came in a stream.

        Raises:
          _Refused: it was refused.
        """
        begin_ns = time.perf_counter_ns()
        said = read.said
        try:
            if said is None:
                assert read.error is not None
                raise read.error
            inferred = await self._sequences.infer(caller, said)
            done_ns = time.perf_counter_ns()
            inferred.version.layout.fill(
                response, inferred.stepped.outputs, inferred.frames, inferred.ports
            )
            response.id = read.id
            if is_stream and said.form.asked.wants_final:
                response.parameters["triton_final_response"].bool_param = True
            self._statistics.count_success(inferred, read, begin_ns, done_ns)
        except errors.TickcellError as error:
            raise self._refused(error, caller, read) from error
        except Exception as error:
            _log.exception("ModelInfer failed")
            raise self._refused(errors.internal("ModelInferRequest"), caller, read) from error

    def _refused(self, error: errors.TickcellError, caller: Caller, read: Read) -> _Refused:
        known = read.asked
        version = None if known is None else self._sequences.version_of(caller, known)
        if version is not None:
            self._statistics.count_failure(version.place, read.start_ns)
        return _Refused(error, read.id, refusals.status(error, read.id, caller, known))

    async def _parse(self, encoded: bytes) -> Any:
        """Parses a request, a long one in a slice of its own."""
        parse = functools.partial(calls.parse, pb.ModelInferRequest, encoded)
        return parse() if len(encoded) <= _LONG_BYTES else await self._engine.in_slice(parse)


def _traced(
    answer: _Answer, begin: Callable[[], contextlib.AbstractContextManager[None]]
) -> _Answer:
    """Returns what answers requests, each in a span of its own."""

    async def traced(read: Read) -> bytes:
        with begin():
            return await answer(read)

    return traced

"""The methods of SessionService that advance sessions: StepSession and StreamSteps."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import grpc

from tickcell import wire
from tickcell.server import calls, errors, messages
from tickcell.server.rules import StepRequest
from tickcell.wire.stream_codec import StepFields, StreamCodec

if TYPE_CHECKING:
    from tickcell.server.engine import Engine
    from tickcell.server.store.contract import Key
    from tickcell.server.streams import Stream, Streams

# To parse more than this takes long enough to wait for its turn.
_LONG_BYTES = 64 * 1024


class StepServicer:
    """Takes steps to the engine, and brings their replies back.

    Of each stream one request is read at a time, and answered before the next; the
    others wait in the transport, whose flow control holds their sender.
    """

    def __init__(self, gate: calls.Gate, streams: Streams, engine: Engine) -> None:
        self._gate = gate
        self._streams = streams
        self._engine = engine

    def methods(self) -> dict[str, calls.Handler]:
        """Returns the methods' handlers by name."""
        return {
            "StepSession": grpc.unary_unary_rpc_method_handler(self._step),
            "StreamSteps": grpc.stream_stream_rpc_method_handler(self._stream),
        }

    async def _step(self, encoded: bytes, context: calls.Context) -> bytes:
        try:
            caller = self._gate.admit(context)
            message = await self._parse(wire.StepSessionRequest, encoded)
            asked = messages.step(message, is_stream=False)
            return messages.answer(
                asked, await self._engine.step(_request(caller.key(asked.session), asked))
            )
        except errors.TickcellError as error:
            await self._gate.refuse(context, error)

    async def _stream(self, _: object, context: calls.Context) -> None:
        try:
            with self._streams.opened(context) as stream:
                await self._answer_all(stream)
        except errors.TickcellError as error:
            await self._gate.refuse(context, error)

    async def _answer_all(self, stream: Stream) -> None:
        """Answers request after request.

        Raises:
          TickcellError: the stream is to end for this.
        """
        caller, context, codec = stream.caller, stream.context, StreamCodec()
        key = caller.key("")
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
            message = None
            asked = codec.read(encoded)
            try:
                if asked is None:
                    message = await self._parse(wire.StreamStepsRequest, encoded)
                    asked = messages.step(message, is_stream=True)
                if asked.session != key.session:
                    key = caller.key(asked.session)
                answered = await self._engine.step(_request(key, asked))
            except errors.TickcellError as error:
                self._engine.observer.refused(error)
                await context.write(messages.refused_step(asked or message, error))
                continue
            outputs, last_history = answered.outputs, answered.history
            # Whoever does not read its answer has no more than that in our memory.
            encoded = message = None
            await context.write(codec.write(asked, outputs, last_history))
            codec.foresee(asked, outputs, last_history)
        assert stream.end is not None
        raise stream.end

    async def _parse(self, twin: Any, encoded: bytes) -> Any:
        """Parses a message, a long one in a slice of its own."""
        if len(encoded) <= _LONG_BYTES:
            return calls.parse_twin(twin, encoded)
        return await self._engine.in_slice(functools.partial(calls.parse_twin, twin, encoded))


def _request(key: Key, asked: StepFields) -> StepRequest:
    return StepRequest(key, *asked[1:])

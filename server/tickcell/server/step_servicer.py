"""The methods of SessionService that advance sessions: StepSession and StreamSteps."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any

import grpc

from tickcell import wire
from tickcell.server import calls, errors, messages
from tickcell.server.rules import StepRequest
from tickcell.wire.stream_codec import StepFields, StreamCodec

if TYPE_CHECKING:
    from tickcell.server.caller import Caller
    from tickcell.server.engine import Engine
    from tickcell.server.store.contract import Key

# To parse more than this takes long enough to wait for its turn.
_LONG_BYTES = 64 * 1024

_log = logging.getLogger(__name__)


class _Stream:
    """An open stream: its task, and whether that waits for the next request."""

    __slots__ = ("is_idle", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.is_idle = False


class StepServicer:
    """Takes steps to the engine, and brings their replies back.

    Of each stream one request is read at a time, and answered before the next; the
    others wait in the transport, whose flow control holds their sender.
    """

    def __init__(self, gate: calls.Gate, engine: Engine, *, max_streams: int) -> None:
        self._gate = gate
        self._engine = engine
        self._max_streams = max_streams
        self._streams: set[_Stream] = set()
        self._no_stream = asyncio.Event()

    def methods(self) -> dict[str, calls.Handler]:
        """Returns the methods' handlers by name."""
        return {
            "StepSession": grpc.unary_unary_rpc_method_handler(self._step),
            "StreamSteps": grpc.stream_stream_rpc_method_handler(self._stream),
        }

    async def drain(self, grace_s: float) -> None:
        """Ends the streams, each once its request is answered; waits at most this long.

        The gate must be closed already.
        """
        for stream in self._streams:
            if stream.is_idle:
                stream.task.cancel()
        if not self._streams:
            return
        try:
            await asyncio.wait_for(self._no_stream.wait(), grace_s)
        except TimeoutError:
            _log.warning("%d streams did not end within %g s", len(self._streams), grace_s)

    async def _step(self, encoded: bytes, context: calls.Context) -> bytes:
        try:
            caller = self._gate.admit(context)
            message = await self._parse(wire.StepSessionRequest, encoded)
            asked = messages.step(message, is_stream=False)
            return messages.answer(
                asked, await self._engine.step(_request(caller.key(asked.session), asked))
            )
        except errors.TickcellError as error:
            await calls.abort(context, error)

    async def _stream(self, _: object, context: calls.Context) -> None:
        try:
            caller = self._gate.admit(context)
            if len(self._streams) >= self._max_streams:
                raise errors.StreamsFull(
                    f"{len(self._streams)} streams are open, the most there may be; share a "
                    "stream among sessions, or raise --max-streams.",
                    max_stream_count=self._max_streams,
                )
        except errors.TickcellError as error:
            await calls.abort(context, error)
        task = asyncio.current_task()
        assert task is not None
        stream = _Stream(task)
        self._streams.add(stream)
        self._no_stream.clear()
        try:
            await self._answer_all(caller, context, stream)
        finally:
            self._streams.discard(stream)
            if not self._streams:
                self._no_stream.set()

    async def _answer_all(self, caller: Caller, context: calls.Context, stream: _Stream) -> None:
        codec = StreamCodec()
        key = caller.key("")
        while self._gate.is_open:
            stream.is_idle = True
            try:
                encoded: Any = await context.read()
            except asyncio.CancelledError:
                if self._gate.is_open:
                    raise
                stream.task.uncancel()
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
                await context.write(_refusal(asked or message, error))
                continue
            outputs, last_history = answered.outputs, answered.history
            # Whoever does not read its answer has no more than that in our memory.
            encoded = message = None
            await context.write(codec.write(asked, outputs, last_history))
            codec.foresee(asked, outputs, last_history)
        await calls.abort(context, calls.draining())

    async def _parse(self, twin: Any, encoded: bytes) -> Any:
        """Parses a message, a long one in a slice of its own."""
        if len(encoded) <= _LONG_BYTES:
            return _parse(twin, encoded)
        return await self._engine.in_slice(functools.partial(_parse, twin, encoded))


def _parse(twin: Any, encoded: bytes) -> Any:
    try:
        return wire.parse(twin, encoded)
    except wire.DecodeError as error:
        raise calls.malformed(twin.DESCRIPTOR.name, error) from error


def _request(key: Key, asked: StepFields) -> StepRequest:
    return StepRequest(key, *asked[1:])


def _refusal(refused: Any, error: errors.TickcellError) -> bytes:
    """Returns the answer to a refused request: its fields, its message, or None if it is none."""
    response = wire.StreamStepsResponse(error=messages.status(error))
    if refused is not None:
        response.session = refused.session
        response.generation = refused.generation
        response.first_step = refused.first_step
    encoded: bytes = response.SerializeToString()
    return encoded

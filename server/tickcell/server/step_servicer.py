"""The methods of SessionService that advance sessions: StepSession and StreamSteps."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc

from tickcell import wire
from tickcell.server import calls, errors, messages
from tickcell.server.succession import Succession

if TYPE_CHECKING:
    from tickcell.server.turn import Turn

_log = logging.getLogger(__name__)


class _Stream:
    """An open stream: its task, and whether that waits for the next request."""

    __slots__ = ("is_idle", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.is_idle = False


class StepServicer:
    """Takes steps to the turn, and brings their replies back.

    Of each stream one request is read at a time, and answered before the next; the
    others wait in the transport, whose flow control holds their sender.
    """

    def __init__(self, gate: calls.Gate, turn: Turn, *, max_streams: int) -> None:
        self._gate = gate
        self._turn = turn
        self._max_streams = max_streams
        self._streams: set[_Stream] = set()
        self._no_stream = asyncio.Event()
        # Streams and calls that may have something for the next turn.
        self._caller_count = 0

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
        self._caller_count += 1
        try:
            self._gate.check()
            asked = messages.step(_parse(wire.StepSessionRequest, encoded), is_stream=False)
            self._turn.enter(asked)
            await asyncio.sleep(0)
            if asked.error is not None:
                raise asked.error
        except errors.TickcellError as error:
            await calls.abort(context, error)
        finally:
            self._caller_count -= 1
        return messages.answer(wire.StepSessionResponse, asked)

    async def _stream(self, _: object, context: calls.Context) -> None:
        try:
            self._gate.check()
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
        self._caller_count += 1
        self._no_stream.clear()
        try:
            await self._answer_all(context, stream)
        finally:
            self._caller_count -= 1
            self._streams.discard(stream)
            if not self._streams:
                self._no_stream.set()

    async def _answer_all(self, context: calls.Context, stream: _Stream) -> None:
        succession = Succession()
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
            asked = succession.read(encoded)
            if asked is None:
                message = None
                try:
                    message = _parse(wire.StreamStepsRequest, encoded)
                    asked = messages.step(message, is_stream=True)
                except errors.TickcellError as error:
                    await context.write(_refusal(message, error))
                    continue
            if self._caller_count == 1:
                # Nobody else can have sent anything that has arrived.
                self._turn.run_alone(asked)
            else:
                self._turn.enter(asked)
                await asyncio.sleep(0)
            await context.write(
                succession.answer(asked) if asked.error is None else _refusal(asked, asked.error)
            )
            succession.foresee(asked)
        await calls.abort(context, calls.draining())


def _parse(twin: Any, encoded: bytes) -> Any:
    try:
        return wire.parse(twin, encoded)
    except wire.DecodeError as error:
        raise calls.malformed(twin.DESCRIPTOR.name, error) from error


def _refusal(refused: Any, error: errors.TickcellError) -> bytes:
    """Returns the answer to a refused request: a message, a step, or None if it was neither."""
    response = wire.StreamStepsResponse(error=messages.status(error))
    if refused is not None:
        response.session = refused.session
        response.generation = refused.generation
        response.first_step = refused.first_step
    encoded: bytes = response.SerializeToString()
    return encoded

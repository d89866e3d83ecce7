"""The methods of SessionService that advance sessions: StepSession and StreamSteps."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc

from tickcell import wire
from tickcell.server import calls, errors, messages

if TYPE_CHECKING:
    from tickcell.server.step import Step
    from tickcell.server.turn import Turn

_log = logging.getLogger(__name__)


class StepServicer:
    """Takes steps to the turn, and their replies back in the order of the requests."""

    def __init__(self, gate: calls.Gate, turn: Turn, *, max_streams: int) -> None:
        self._gate = gate
        self._turn = turn
        self._max_streams = max_streams
        # Streams that wait for their next request: a drain may end them at once.
        self._idle: set[asyncio.Task[Any]] = set()
        self._stream_count = 0
        self._caller_count = 0
        self._no_stream = asyncio.Event()

    def methods(self) -> dict[str, calls.Handler]:
        """Returns the methods' handlers by name."""
        return {
            "StepSession": grpc.unary_unary_rpc_method_handler(self._step),
            "StreamSteps": grpc.stream_stream_rpc_method_handler(self._stream),
        }

    async def drain(self, grace_s: float) -> None:
        """Ends the streams, each once its requests are answered; waits at most this long.

        The gate must be closed already.
        """
        for task in self._idle:
            task.cancel()
        if not self._stream_count:
            return
        try:
            await asyncio.wait_for(self._no_stream.wait(), grace_s)
        except TimeoutError:
            _log.warning("%d streams did not end within %g s", self._stream_count, grace_s)

    async def _step(self, encoded: bytes, context: calls.Context) -> bytes:
        self._caller_count += 1
        try:
            self._gate.check()
            message = _parse(wire.StepSessionRequest, encoded)
            answered = await self._answer(message, is_stream=False)
        except errors.TickcellError as error:
            await calls.abort(context, error)
        finally:
            self._caller_count -= 1
        return _response(wire.StepSessionResponse, answered)

    async def _stream(self, _: object, context: calls.Context) -> None:
        try:
            self._gate.check()
            if self._stream_count >= self._max_streams:
                raise errors.StreamsFull(
                    f"{self._stream_count} streams are open, the most there may be; share a "
                    "stream among sessions, or raise --max-streams.",
                    max_stream_count=self._max_streams,
                )
        except errors.TickcellError as error:
            await calls.abort(context, error)
        self._stream_count += 1
        self._caller_count += 1
        self._no_stream.clear()
        try:
            await self._answer_all(context)
        finally:
            self._stream_count -= 1
            self._caller_count -= 1
            if not self._stream_count:
                self._no_stream.set()

    async def _answer_all(self, context: calls.Context) -> None:
        task = asyncio.current_task()
        assert task is not None
        while self._gate.is_open:
            self._idle.add(task)
            try:
                encoded: Any = await context.read()
            except asyncio.CancelledError:
                if self._gate.is_open:
                    raise
                task.uncancel()
                break
            finally:
                self._idle.discard(task)
            if encoded is grpc.aio.EOF:
                return
            await context.write(await self._answer_encoded(encoded))
        await calls.abort(context, calls.draining())

    async def _answer_encoded(self, encoded: bytes) -> bytes:
        """Answers one request of a stream, with its error if it is refused."""
        message = None
        try:
            message = _parse(wire.StreamStepsRequest, encoded)
            answered = await self._answer(message, is_stream=True)
        except errors.TickcellError as error:
            return _refusal(message, error)
        return _response(wire.StreamStepsResponse, answered)

    async def _answer(self, message: Any, *, is_stream: bool) -> Step:
        asked = messages.step(message, is_stream=is_stream)
        if self._caller_count == 1:
            # Nobody else can have sent anything that has arrived.
            self._turn.run([asked])
        else:
            self._turn.enter(asked)
            await asyncio.sleep(0)
        if asked.error is not None:
            raise asked.error
        return asked


def _parse(twin: Any, encoded: bytes) -> Any:
    try:
        return wire.parse(twin, encoded)
    except wire.DecodeError as error:
        raise calls.malformed(twin.DESCRIPTOR.name, error) from error


def _response(twin: Any, answered: Step) -> bytes:
    encoded: bytes = twin(
        session=answered.session,
        generation=answered.record.life.generation,
        first_step=answered.start_step,
        step_count=answered.step_count,
        outputs=answered.outputs,
    ).SerializeToString()
    return encoded


def _refusal(message: Any, error: errors.TickcellError) -> bytes:
    """Returns the answer to a refused request; `message` is None if it could not be parsed."""
    response = wire.StreamStepsResponse(error=messages.status(error))
    if message is not None:
        response.session = message.session
        response.generation = message.generation
        response.first_step = message.first_step
    encoded: bytes = response.SerializeToString()
    return encoded

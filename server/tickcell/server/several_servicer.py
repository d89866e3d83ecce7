"""The method of SessionService that advances several sessions by one message: StepSessions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tickcell import wire
from tickcell.server import allowance, calls, errors, messages
from tickcell.server.pieces import cut
from tickcell.server.rounds import Stepped
from tickcell.server.rules import StepRequest
from tickcell.wire.stream_codec import StepFields

if TYPE_CHECKING:
    from tickcell.server.caller import Caller
    from tickcell.server.config import Config
    from tickcell.server.engine import Engine

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# To read or to write so much takes about a millisecond; what is longer waits for its turn.
_PIECE_REQUESTS = 256
_PIECE_BYTES = 64 * 1024


class _Refused(NamedTuple):
    """A request that goes no further.

    Attributes:
      named: its fields, its message, or None if it is none.
      error: why.
    """

    named: Any
    error: errors.TickcellError


_Answer = tuple[StepFields, Stepped] | _Refused


class SeveralServicer:
    """Takes the requests of a message to the engine together, and answers each in its place."""

    def __init__(self, gate: calls.Gate, config: Config, engine: Engine) -> None:
        self._gate = gate
        self._limits = config.limits
        self._engine = engine

    def methods(self) -> dict[str, calls.Handler]:
        """Returns the method's handler by its name."""
        return {"StepSessions": calls.unary(self._gate, wire.StepSessionsRequest, self._step)}

    async def _step(self, caller: Caller, message: Any) -> bytes:
        encoded: list[bytes] = list(message.requests)
        allowance.check_count(len(encoded), self._limits)
        read = await self._in_pieces(_Reader().read, encoded, len)
        asked = [each for each in read if isinstance(each, StepFields)]
        requests = [StepRequest(caller.key(each.session), *each[1:]) for each in asked]
        answered = iter(await self._engine.step_together(requests))
        answers = [
            each if isinstance(each, _Refused) else _answer(each, next(answered)) for each in read
        ]
        for answer in answers:
            if isinstance(answer, _Refused):
                self._engine.observer.refused_one(answer.error)
        responses = await self._in_pieces(_write, answers, _size)
        response: bytes = wire.StepSessionsResponse(responses=responses).SerializeToString()
        return response

    async def _in_pieces(
        self,
        work: Callable[[list[_Item]], list[_Result]],
        items: list[_Item],
        size_of: Callable[[_Item], int],
    ) -> list[_Result]:
        """Works through a list: a short one at once, of a long one each piece in its turn."""
        pieces = [*cut(items, size_of, _PIECE_REQUESTS, _PIECE_BYTES)]
        if len(pieces) == 1:
            return work(pieces[0])
        done: list[_Result] = []
        for piece in pieces:
            done += await self._engine.in_slice(functools.partial(work, piece))
        return done


class _Reader:
    """Reads the requests of one message."""

    def __init__(self) -> None:
        # Of the sessions that were named so far, the place of the request.
        self._named: dict[str, None] = {}
        self._count = 0

    def read(self, encoded: list[bytes]) -> list[StepFields | _Refused]:
        """Reads the next requests."""
        return [self._read(each) for each in encoded]

    def _read(self, encoded: bytes) -> StepFields | _Refused:
        place, self._count = self._count, self._count + 1
        message = None
        try:
            message = calls.parse_twin(wire.StreamStepsRequest, encoded)
            session = message.session
            if not session:
                # On a stream it is one more unknown id; here it is no session of its own.
                messages.session_id(session)
            if session in self._named:
                raise _named_again(session, place)
            self._named[session] = None
            return messages.step(message, is_stream=True)
        except errors.TickcellError as error:
            return _Refused(message, error)


def _named_again(session: str, place: int) -> errors.ArgumentInvalid:
    field = f"requests[{place}].session"
    return errors.ArgumentInvalid(
        f"{field}: got {session[:80]!r}, which an earlier request names, expected each session "
        "once in a message; send its steps as one chunk, or in another message.",
        session=session[:80],
        field=field,
        got=session[:80],
    )


def _answer(asked: StepFields, answered: Stepped | errors.TickcellError) -> _Answer:
    return (asked, answered) if isinstance(answered, Stepped) else _Refused(asked, answered)


def _write(answers: list[_Answer]) -> list[bytes]:
    return [
        messages.refused_step(*answer)
        if isinstance(answer, _Refused)
        else messages.answered_step(*answer)
        for answer in answers
    ]


def _size(answer: _Answer) -> int:
    return 0 if isinstance(answer, _Refused) else len(answer[1].outputs)

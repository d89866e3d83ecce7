"""Engines without a network: sessions, requests for them, and what becomes of those."""

from __future__ import annotations

import asyncio
import atexit
import dataclasses
import uuid
from collections.abc import Awaitable, Coroutine, Generator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from doubles.counting_cell import counting_outputs
from doubles.in_process_server import served
from doubles.interrupted_store import InterruptedStore
from doubles.manual_clock import ManualClock
from doubles.moody_cell import MoodyCell
from tickcell.model import Cell
from tickcell.server import errors, rounds
from tickcell.server.caller import ANYBODY
from tickcell.server.catalogue import Catalogue, ServedModel
from tickcell.server.clock import Moment
from tickcell.server.computing import Call, Lockstep, Stretch
from tickcell.server.config import Config, Limits
from tickcell.server.driver import Driver
from tickcell.server.engine import Engine
from tickcell.server.heads import Heads
from tickcell.server.in_slices import InSlices
from tickcell.server.life_requests import Create, Creation, Delete, Get, Reset, Touch
from tickcell.server.observer import Observer
from tickcell.server.pace import Pace
from tickcell.server.policy import Policy
from tickcell.server.quotas import Quotas
from tickcell.server.record import Record
from tickcell.server.room import Count
from tickcell.server.rounds import Answer, Request
from tickcell.server.rules import StepRequest
from tickcell.server.store import Key
from tickcell.server.sweep import Sweep

_Result = TypeVar("_Result")

RETENTION_NS = 3600 * 10**9
WALL_NS = 1_800_000_000 * 10**9


class Asked:
    """A step request, and its answer once there is one.

    Attributes:
      request: what is asked.
      answer: what came of it.
    """

    def __init__(self, request: StepRequest) -> None:
        self.request = request
        self.answer: Answer = None

    @property
    def error(self) -> errors.TickcellError | None:
        return self.answer if isinstance(self.answer, errors.TickcellError) else None

    @property
    def outputs(self) -> list[float]:
        """The outputs; a refusal is a failure."""
        assert isinstance(self.answer, rounds.Stepped), self.answer
        outputs: list[float] = np.frombuffer(self.answer.outputs, "<f4").tolist()
        return outputs


class Server(Protocol):
    """Takes requests, and answers before it returns."""

    def run(self, *asked: Asked) -> None: ...

    def ask(self, request: Request) -> Any:
        """Returns the answer to a request, or raises it."""
        ...


class Sessions:
    """The lives of sessions on a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def create(self, model: ServedModel, wanted: Creation) -> Record:
        created: Record = self._server.ask(Create(ANYBODY.key(wanted.session), model, wanted))
        return created

    def get(self, session: str) -> Record:
        found: Record = self._server.ask(Get(ANYBODY.key(session)))
        return found

    def touch(self, session: str, generation: int) -> Record:
        touched: Record = self._server.ask(Touch(ANYBODY.key(session), generation))
        return touched

    def reset(self, session: str, generation: int, request_id: str) -> Record:
        begun: Record = self._server.ask(Reset(ANYBODY.key(session), generation, request_id))
        return begun

    def delete(self, session: str, generation: int) -> None:
        self._server.ask(Delete(ANYBODY.key(session), generation))


class LoopedServer:
    """An engine, asked from outside its event loop.

    Attributes:
      engine: it.
      sessions: the lives on it.
    """

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        store: InterruptedStore,
        observer: Observer | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self.engine = Engine(
            config, catalogue, store, observer or Observer(), lambda: WALL_NS, quotas=quotas
        )
        self.sessions = Sessions(self)

    def run(self, *asked: Asked) -> None:
        """Lets all of them arrive in one turn."""

        async def ask() -> list[Any]:
            answers = [_awaited(self.engine.step(each.request)) for each in asked]
            return await asyncio.gather(*answers)

        for each, answer in zip(asked, in_loop(ask()), strict=True):
            each.answer = answer

    def ask(self, request: Request) -> Any:
        return in_loop(self._asked(request))

    async def _asked(self, request: Request) -> Any:
        engine, session = self.engine, request.key.session
        match request:
            case Create(_, model, wanted):
                return await engine.create(ANYBODY, model, wanted)
            case Get():
                return await engine.get(ANYBODY, session)
            case Touch(_, generation):
                return await engine.touch(ANYBODY, session, generation)
            case Reset(_, generation, request_id):
                return await engine.reset(ANYBODY, session, generation, request_id)
            case Delete(_, generation):
                return await engine.delete(ANYBODY, session, generation)
        raise AssertionError(f"not of a life: {request!r}")

    def list(self, behind: str, limit: int) -> tuple[list[str], str]:
        def ids(found: Sequence[tuple[Key, Record]]) -> list[str]:
            return [key.session for key, _ in found]

        listed = self.engine.list_live("", Key("", behind) if behind else None, limit, ids)
        shown, last = in_loop(listed)
        return [session for piece in shown for session in piece], last.session if last else ""


class InlineServer:
    """Another server on the store, which moves each round at once and alone.

    Attributes:
      heads: what it remembers.
      sessions: the lives on it.
    """

    def __init__(self, store: InterruptedStore, policy: Policy) -> None:
        self._store = store
        self._policy = policy
        self.heads = Heads()
        self.sessions = Sessions(self)

    def run(self, *asked: Asked) -> None:
        for each in asked:
            each.answer = self._answer(each.request)

    def ask(self, request: Request) -> Any:
        return _given(self._answer(request))

    def _answer(self, request: Request) -> Answer:
        while True:
            now = Moment(self._store.now_ns(), WALL_NS)
            begun, to_load = rounds.begin([request], self.heads, self._policy, now)
            if to_load:
                loaded = rounds.begin_loaded(to_load, self.heads, self._policy, now)
                begun, answers = self._move(loaded)
                if answers:
                    return _only(answers)
            answers, _ = self._move(rounds.finish(begun, self.heads))
            if answers:
                return _only(answers)

    def _move(self, moves: Generator[Any, Any, _Result]) -> _Result:
        try:
            need = next(moves)
            while True:
                try:
                    result = self._perform(need)
                except Exception as error:  # noqa: BLE001 - the round's to judge.
                    need = moves.throw(error)
                else:
                    need = moves.send(result)
        except StopIteration as end:
            returned: _Result = end.value
            return returned

    def _perform(self, need: object) -> Any:
        match need:
            case rounds.Load(keys):
                return self._store.load(keys)
            case Count(owner):
                return self._store.counts(owner)
            case rounds.Commit(changes):
                return self._store.commit(changes)
            case Call() | Stretch() | Lockstep():
                return need.compute()
        raise AssertionError(f"not a need: {need!r}")


class World:
    """A store, models, and a server over both.

    Attributes:
      cell: of the model "counting", unless that was given another; one sensor wide.
      server: the server; `other` is another one on its store.
      caller: whose sessions these are.
      sweeper: what `sweep` sweeps with.
      quotas: to which the server holds owners.
    """

    caller = ANYBODY

    def __init__(
        self,
        *more_models: ServedModel,
        cell: Cell | None = None,
        pace: Pace | None = None,
        limits: Limits | None = None,
        store: InterruptedStore | None = None,
    ) -> None:
        self.cell = MoodyCell()
        self.model = served(cell or self.cell)
        if pace is not None:
            self.model = dataclasses.replace(self.model, pace=pace)
        self.cell.row_counts.clear()
        self.clock = ManualClock()
        self.store = store or InterruptedStore(self.clock)
        self.quotas = Quotas()
        self.catalogue = Catalogue([self.model, *more_models])
        self.limits = limits or Limits(max_record_bytes=2**20)
        self.server = self.server_of(self.catalogue)
        self.sessions = self.server.sessions
        self.other = self.other_of(self.catalogue)
        policy = Policy.of(self._config(is_strict=False), self.catalogue)
        driver = Driver(self.store, Heads(), policy, Observer(), lambda: WALL_NS)
        self.sweeper = Sweep(InSlices(self.store, driver.in_slice), driver, policy)

    def server_of(
        self, catalogue: Catalogue, *, is_strict: bool = False, observer: Observer | None = None
    ) -> LoopedServer:
        """Returns a server of some models on the store."""
        config = self._config(is_strict=is_strict)
        return LoopedServer(config, catalogue, self.store, observer, self.quotas)

    def other_of(self, catalogue: Catalogue, *, is_strict: bool = False) -> InlineServer:
        """Returns a server on the store that can answer while the first one waits for it."""
        policy = Policy.of(self._config(is_strict=is_strict), catalogue)
        return InlineServer(self.store, policy)

    def create(
        self,
        session: str,
        series_count: int = 1,
        *,
        window: int = 8,
        model: ServedModel | None = None,
        idle_ttl_ns: int = 0,
        request_id: str = "",
        server: LoopedServer | InlineServer | None = None,
    ) -> Record:
        wanted = Creation(
            session, request_id or str(uuid.uuid4()), series_count, window, idle_ttl_ns, {}
        )
        return (server or self.server).sessions.create(model or self.model, wanted)

    def create_all(self, *sessions: str) -> None:
        for session in sessions:
            self.create(session)

    def request(
        self, session: str, first_step: int, frames: Sequence[float] | NDArray[np.float32]
    ) -> Asked:
        """Returns a request for the steps of `[T]` or `[T, B, F]` frames."""
        generation = self.other.sessions.get(session).life.generation
        readings = np.array(frames, np.float32)
        key = ANYBODY.key(session)
        return Asked(StepRequest(key, generation, first_step, len(readings), readings.tobytes()))

    def run(self, *asked: Asked) -> None:
        self.server.run(*asked)

    def sweep(self) -> int:
        """Sweeps once, as upkeep does each second; returns how many records were removed."""
        return in_loop(self.sweeper.run())

    def next_step(self, session: str) -> int:
        return self.other.sessions.get(session).next_step

    def _config(self, *, is_strict: bool) -> Config:
        return Config(
            durability="none",
            limits=self.limits,
            retention_s=RETENTION_NS / 10**9,
            numerics="strict" if is_strict else "serve",
        )


def assert_counted(
    asked: Asked, first_step: int, frames: Sequence[float] | NDArray[np.float32]
) -> None:
    """Holds an answer to what a counting cell gives for the frames."""
    assert asked.error is None, asked.error
    expected = counting_outputs(np.array(frames, np.float32), first_step)
    np.testing.assert_array_equal(np.array(asked.outputs, np.float32), expected.ravel())


def in_loop(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs a coroutine to its end."""
    return _LOOP.run_until_complete(asyncio.wait_for(work, _PATIENCE_S))


# Longer than anything here takes, so that a hang is a failure.
_PATIENCE_S = 60.0
_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)


async def _awaited(answer: Awaitable[Answer]) -> Answer:
    try:
        return await answer
    except errors.TickcellError as error:
        return error


def _given(answer: Answer) -> Answer:
    if isinstance(answer, errors.TickcellError):
        raise answer
    return answer


def _only(answers: list[tuple[Any, Answer]]) -> Answer:
    ((_, answer),) = answers
    return answer

"""Sequences: what becomes of a request that starts, goes on with or ends one.

A sequence's session is found by its hash, and its life by its generation, which follows
from the UUID of a caller that gives one. What is remembered here is which life each
sequence had when it was asked for last: each step names that life, so what was remembered
wrongly is refused by the rules, looked up, and tried again.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import errors, lives, rules
from tickcell.server.life_requests import Creation, draw_generation
from tickcell.server.oip import identity
from tickcell.server.rounds import Stepped
from tickcell.server.rules import StepRequest

if TYPE_CHECKING:
    from tickcell.server.caller import Caller
    from tickcell.server.engine import Engine
    from tickcell.server.oip.asked import Asked
    from tickcell.server.oip.forms import Said
    from tickcell.server.oip.identity import Sequence
    from tickcell.server.oip.naming import Port
    from tickcell.server.oip.repository import Repository, Version
    from tickcell.server.oip.tensors import Frames
    from tickcell.server.record import Record
    from tickcell.server.store.contract import Key

# About 4 MB of them.
_MOST_KNOWN = 16_384
# So often may a sequence begin anew under a request that means whichever life there is.
_TRIES = 3

_WINDOW = 32


class Inferred(NamedTuple):
    """What an inference request comes to.

    Attributes:
      version: which computed it.
      frames: what it was asked with.
      ports: the outputs that it asks for.
      stepped: the engine's answer.
      read_ns: when the frames were read, by `time.perf_counter_ns`.
    """

    version: Version
    frames: Frames
    ports: tuple[Port, ...]
    stepped: Stepped
    read_ns: int


class _Known(NamedTuple):
    """A sequence's life, as it was last seen."""

    key: Key
    generation: int
    version: Version


class Sequences:
    """All sequences of a store."""

    def __init__(
        self, engine: Engine, repository: Repository, *, idle_ttl_ns: int, max_window: int
    ) -> None:
        self._engine = engine
        self._repository = repository
        self._idle_ttl_ns = idle_ttl_ns
        self._window = min(_WINDOW, max_window)
        self._known: collections.OrderedDict[tuple[str, Sequence], _Known] = (
            collections.OrderedDict()
        )
        # Of sequences that are about to end: set once they have.
        self._ending: dict[tuple[str, Sequence], asyncio.Event] = {}
        self._tasks: set[asyncio.Task[Inferred]] = set()

    def version_of(self, caller: Caller, asked: Asked) -> Version | None:
        """Returns the version that a request is about, as far as it is known."""
        known = self._known.get((caller.owner, asked.sequence))
        if known is not None and not asked.starts:
            return known.version
        with contextlib.suppress(errors.ModelUnknown):
            return self._repository.find(asked.sequence.model, asked.version)
        return None

    async def infer(self, caller: Caller, said: Said) -> Inferred:
        """Starts, advances or ends a sequence, as a request asks.

        Args:
          caller: whose sequence it is.
          said: what it says.

        Raises:
          ModelUnknown, ModelNotServed: no such version is served, or not the sequence's.
          ArgumentInvalid: the tensors do not fit it, or another version is asked for.
          Whatever `Engine.begin`, `Engine.step` and `Engine.end` raise.
        """
        asked = said.form.asked
        place = (caller.owner, asked.sequence)
        while (ending := self._ending.get(place)) is not None:
            await ending.wait()
        if not asked.ends:
            infer = self._start if asked.starts else self._go_on
            return await infer(caller, said)
        # Whoever asks from now on comes after the end.
        self._ending[place] = asyncio.Event()
        # It takes several commits, and goes on where its caller leaves in between.
        task = asyncio.create_task(self._end(caller, said))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def _start(self, caller: Caller, said: Said) -> Inferred:
        asked = said.form.asked
        version = self._repository.find(asked.sequence.model, asked.version)
        frames, ports = said.read(version.layout)
        read_ns = time.perf_counter_ns()
        session = asked.sequence.session(caller.owner)
        generation = identity.generation(asked.life) if asked.life else draw_generation()
        first = StepRequest(
            caller.key(session), generation, asked.step, frames.step_count, frames.encoded
        )
        wanted = Creation(
            session=session,
            request_id=asked.life or str(uuid.uuid4()),
            series_count=1,
            window=self._window,
            idle_ttl_ns=self._idle_ttl_ns,
            labels={
                "model": asked.sequence.model,
                "sequence_id": str(asked.sequence.id),
                "sequence_id_type": asked.sequence.kind,
            },
        )
        try:
            begun, stepped = await self._engine.begin(version.model, wanted, first)
        except errors.SessionDeleted as error:
            return await self._recall(caller, said, session, error)
        if begun.life.fingerprint != version.model.fingerprint:
            # It was sent again, and there is a newer version meanwhile.
            version = await self._pinned_to(begun, session)
        self._remember(caller, asked.sequence, _Known(first.key, generation, version))
        return Inferred(version, frames, ports, stepped, read_ns)

    async def _go_on(self, caller: Caller, said: Said) -> Inferred:
        asked = said.form.asked
        place = (caller.owner, asked.sequence)
        wanted = identity.generation(asked.life) if asked.life else None
        for last in range(1, _TRIES + 1):
            known = self._known.get(place)
            if known is None or wanted not in (None, known.generation):
                session = asked.sequence.session(caller.owner)
                try:
                    known = await self._look_up(caller, asked, session)
                except errors.SessionDeleted as error:
                    return await self._recall(caller, said, session, error)
            else:
                self._known.move_to_end(place)
            self._check_version(asked, known.version)
            frames, ports = said.read(known.version.layout)
            read_ns = time.perf_counter_ns()
            request = StepRequest(
                known.key,
                wanted or known.generation,
                asked.step,
                frames.step_count,
                frames.encoded,
            )
            try:
                stepped = await self._engine.step(request)
            except errors.SessionRestarted:
                self._known.pop(place, None)
                if asked.life or last == _TRIES:
                    raise
            except errors.SessionDeleted as error:
                self._known.pop(place, None)
                return await self._recall(caller, said, known.key.session, error)
            except (
                errors.SessionUnknown,
                errors.SessionExpired,
                errors.SessionMoved,
                errors.SessionClaimed,
            ):
                self._known.pop(place, None)
                raise
            else:
                return Inferred(known.version, frames, ports, stepped, read_ns)
        raise AssertionError("not reached")

    async def _end(self, caller: Caller, said: Said) -> Inferred:
        asked = said.form.asked
        try:
            infer = self._start if asked.starts else self._go_on
            inferred = await infer(caller, said)
            session = asked.sequence.session(caller.owner)
            try:
                await self._engine.end(caller, session, inferred.stepped.generation)
            except (errors.StoreBusy, errors.StoreAway, errors.StoreFull) as error:
                why = f"its frames were applied, but the end was refused with {error.reason}"
                raise errors.outcome_unknown(session, why) from error
            return inferred
        finally:
            place = (caller.owner, asked.sequence)
            self._known.pop(place, None)
            self._ending.pop(place).set()

    async def _recall(
        self,
        caller: Caller,
        said: Said,
        session: str,
        ended: errors.SessionDeleted,
    ) -> Inferred:
        """Answers steps of a life that has ended, if all are in the window that it left.

        Raises:
          SessionDeleted: they are not, or the request names no life.
          StepConflict, StepStale, StepGap and others: see `rules.decide`.
        """
        asked = said.form.asked
        if not asked.life:
            raise ended
        record = await self._engine.recall(caller, session)
        if record.life.generation != identity.generation(asked.life):
            raise ended
        version = await self._pinned_to(record, session)
        self._check_version(asked, version)
        frames, ports = said.read(version.layout)
        read_ns = time.perf_counter_ns()
        request = StepRequest(
            caller.key(session),
            record.life.generation,
            asked.step,
            frames.step_count,
            frames.encoded,
        )
        first_step, stored, _ = rules.decide(record, request, self._engine.catalogue.name_sensor)
        if stored < frames.step_count:
            raise ended
        outputs = rules.stored_outputs(record, first_step, stored)
        last = record.history_before(first_step + stored)
        stepped = Stepped(record.life, first_step, outputs, last, stored)
        return Inferred(version, frames, ports, stepped, read_ns)

    async def _look_up(self, caller: Caller, asked: Asked, session: str) -> _Known:
        try:
            found: Record = await self._engine.get(caller, session)
        except errors.SessionUnknown:
            # Of a model that nobody serves there is nothing to say of its sequences.
            self._repository.versions(asked.sequence.model)
            raise
        if not asked.life:
            lives.check_unclaimed(found, session)
        version = await self._pinned_to(found, session)
        known = _Known(caller.key(session), found.life.generation, version)
        if not found.life.is_claimed:
            # Whoever names no life must not go on with what was claimed.
            self._remember(caller, asked.sequence, known)
        return known

    async def _pinned_to(self, record: Record, session: str) -> Version:
        """Returns the version that a session is pinned to, which is looked for once."""
        await self._engine.models.search(record.life.fingerprint)
        return self._repository.pinned_to(record, session)

    def _remember(self, caller: Caller, sequence: Sequence, known: _Known) -> None:
        self._known[caller.owner, sequence] = known
        self._known.move_to_end((caller.owner, sequence))
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    def _check_version(self, asked: Asked, version: Version) -> None:
        own = version.model.card.version
        if asked.version not in ("", own):
            raise errors.ArgumentInvalid(
                f"model_version: got {asked.version[:80]!r}, expected {own!r}, with which the "
                "sequence was started, or none.",
                field="model_version",
                got=asked.version[:80],
                expected=own,
            )

    def _done(self, task: asyncio.Task[Inferred]) -> None:
        self._tasks.discard(task)
        # Read, also where nobody waits for it any more.
        if not task.cancelled():
            task.exception()

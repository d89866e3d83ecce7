"""A session kept by rounds, lives and records alone, that answers in `PlainSession`'s words."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from doubles.counting_cell import CountingCell
from doubles.in_process_server import served
from doubles.plain_session import ADDS, OTHER, Answer, Frame, counted, history_of, reading_of
from tickcell.model import TensorSpec
from tickcell.server import beginnings, errors, exports, handovers, lives, record, rounds, rules
from tickcell.server.catalogue import Catalogue
from tickcell.server.clock import Moment
from tickcell.server.computing import Call, Lockstep, Stretch
from tickcell.server.config import Limits
from tickcell.server.heads import Head, Heads
from tickcell.server.life_requests import cells_start
from tickcell.server.migration import Migrate
from tickcell.server.policy import Policy
from tickcell.server.preview import PreviewRequest
from tickcell.server.record import Record
from tickcell.server.seal import Seal
from tickcell.server.state_requests import ReadOutputs
from tickcell.server.store import Applied, Change, Contended, EmbeddedStore, Key, Lost, Verdict
from tickcell.v1 import session_service_pb2 as pb

_Result = TypeVar("_Result")


class AddingCell(CountingCell):
    """Counts, and adds something to its outputs; its state may have another name."""

    def __init__(self, adds: float, state: str) -> None:
        super().__init__()
        self._adds = adds
        tensors = (TensorSpec(state, (1,)),)
        self._interface = dataclasses.replace(self._interface, state_tensors=tensors)

    def step_rows(self, rows: bytes | memoryview) -> bytes:
        stepped = np.frombuffer(super().step_rows(rows), "<f4").reshape(-1, 2)
        added: np.ndarray = stepped + np.array([self._adds, 0.0], "<f4")
        return added.tobytes()


MODELS = {
    version: served(AddingCell(adds, "other" if version == OTHER else "step"), version=version)
    for version, adds in ADDS.items()
}
MODEL = MODELS["1"]
CATALOGUE = Catalogue(MODELS.values())
KEY = Key("", "s")
START = cells_start(MODEL, 1)

WORDS = {
    errors.SessionUnknown: "unknown",
    errors.SessionDeleted: "deleted",
    errors.SessionExpired: "expired",
    errors.SessionMoved: "moved",
    errors.SessionExists: "exists",
    errors.SessionRestarted: "restarted",
    errors.SessionClaimed: "claimed",
    errors.ArgumentInvalid: "argument",
    errors.MigrationRefused: "migration",
    errors.FrameShape: "shape",
    errors.FrameNotFinite: "not finite",
    errors.StepStale: "stale",
    errors.StepGap: "gap",
    errors.StepConflict: "conflict",
}


def moment(now: int) -> Moment:
    """Returns a moment whose wall time would end each session early, or late, by turns."""
    return Moment(now, (-1) ** now * 10**6)


@dataclasses.dataclass(frozen=True)
class RuledSession:
    """A session id.

    Attributes:
      stored: what a store holds for it.
      before: what it held before the last change.
      store: which store; None for a plain value instead of one.
    """

    window: int
    most: int
    ttl: int
    retention: int
    stored: bytes | None = None
    before: bytes | None = None
    store: EmbeddedStore | None = None

    # Many requests are tried in one state.
    @functools.cached_property
    def record(self) -> record.Record | None:
        return None if self.stored is None else record.decode(KEY, self.stored)

    def create(self, request: str, generation: int, now: int) -> tuple[RuledSession, Answer]:
        wanted = self._wanted(request, generation)
        return self._change(lambda old: beginnings.create(old, wanted, moment(now), self.retention))

    def begin(self, request: str, generation: int, now: int) -> tuple[RuledSession, Answer]:
        wanted = self._wanted(request, generation)
        return self._change(lambda old: beginnings.begin(old, wanted, moment(now), self.retention))

    def fork(
        self, request: str, source: tuple[Frame, ...], generation: int, now: int
    ) -> tuple[RuledSession, Answer]:
        state = np.float32(counted(source, 0)[1]).tobytes()
        start = beginnings.Start(START.numerics, state, len(source), history_of(source))
        wanted = self._wanted(request, generation)._replace(start=start, origin=start)
        return self._change(lambda old: beginnings.create(old, wanted, moment(now), self.retention))

    def brought(
        self, request: str, source: tuple[Frame, ...], kept: int, generation: int, now: int
    ) -> tuple[RuledSession, Answer]:
        kept = min(kept, self.window)
        outputs = counted(source, 0)[0][len(source) - kept :]
        start = START._replace(
            state=np.float32(counted(source, 0)[1]).tobytes(),
            step=len(source),
            histories=b"".join(
                history_of(source[:step]) for step in range(len(source) - kept, len(source) + 1)
            ),
            outputs=np.array(outputs, "<f4").tobytes(),
        )
        wanted = self._wanted(request, generation)._replace(start=start)
        return self._change(lambda old: beginnings.create(old, wanted, moment(now), self.retention))

    def exported(self) -> bytes:
        """Returns the export of what there is, with its window."""
        found = self.record
        assert found is not None
        export = exports.export("s", found, MODEL.cell.interface, Seal(), has_window=True)
        return export.SerializeToString()

    def imported(
        self, request: str, exported: bytes, generation: int, now: int
    ) -> tuple[RuledSession, Answer]:
        """Creates it from an export, which another one was."""
        content = exports.read(pb.SessionExport.FromString(exported), Seal())
        start, origin = exports.copy(content, MODEL.cell.interface, self.window)
        wanted = self._wanted(request, generation)._replace(start=start, origin=origin)
        return self._change(lambda old: beginnings.create(old, wanted, moment(now), self.retention))

    def move(self, generation: int, request: str, now: int) -> tuple[RuledSession, Answer]:
        new, answer = self._change(
            lambda old: handovers.move(old, "s", generation, request, moment(now), self.retention)
        )
        if answer[0] != "ok":
            return new, answer
        found = new.record
        assert found is not None
        return new, ("ok", found.next_step, found.history_before(found.next_step))

    def forked(self, generation: int, step: int | None, now: int) -> tuple[RuledSession, Answer]:
        try:
            found = lives.live(self.record, "s", now, self.retention)
            start = handovers.fork(found, "s", generation, step)
        except errors.TickcellError as error:
            return self, _answer(error)
        (state,) = np.frombuffer(start.state, "<f4").tolist()
        return self, ("ok", start.step, start.histories, state)

    def preview(
        self, generation: int, step: int, branches: tuple[tuple[Frame, ...], ...], now: int
    ) -> tuple[RuledSession, Answer]:
        frames, resets = _split([frame for branch in branches for frame in branch])
        sizes = len(branches), len(branches[0])
        request = PreviewRequest(KEY, generation, step, *sizes, frames, resets)
        policy = _policy(self.retention)
        stored, answer = _run_round(request, policy, self._shelf(), next(_HEADS)(self), moment(now))
        assert stored == self.stored
        if isinstance(answer, errors.TickcellError):
            return self, _answer(answer)
        return self, ("ok", tuple(np.frombuffer(answer.outputs, "<f4").tolist()))

    def _wanted(self, request: str, generation: int) -> beginnings.CreateRequest:
        return beginnings.CreateRequest(
            session="s",
            request_id=request,
            generation=generation,
            model=MODEL.card.name,
            model_version="1",
            fingerprint=MODEL.fingerprint,
            start=START,
            series_count=1,
            window=self.window,
            max_step_count=self.most,
            sensor_count=1,
            output_count=1,
            idle_ttl_ns=self.ttl,
            labels={},
        )

    def step(
        self,
        generation: int | None,
        first: int | None,
        frames: tuple[Frame, ...],
        before: tuple[Frame, ...] | None,
        now: int,
    ) -> tuple[RuledSession, Answer]:
        readings, resets = _split(frames)
        expected = None if before is None else history_of(before)
        request = rules.StepRequest(KEY, generation, first, len(frames), readings, expected, resets)
        policy = _policy(self.retention)
        head = next(_HEADS)(self)
        if self.store is not None and first is None:
            # A store takes what lies there already for a change of its own, by its bytes, in
            # which the time tells two requests apart. In this world no time passes between them.
            head = _head(self.stored)
        stored, answer = _run_round(request, policy, self._shelf(), head, moment(now))
        if isinstance(answer, errors.TickcellError):
            return self, _answer(answer)
        new = self if stored == self.stored else self._with(stored)
        outputs = tuple(np.frombuffer(answer.outputs, "<f4").tolist())
        return new, ("ok", answer.first_step, outputs, answer.history)

    def recall(
        self, generation: int, first: int, frames: tuple[Frame, ...], now: int
    ) -> tuple[RuledSession, Answer]:
        readings, resets = _split(frames)
        request = rules.StepRequest(KEY, generation, first, len(frames), readings, resets=resets)
        try:
            found = lives.remembered(self.record, "s", now, self.retention)
            _, stored, _ = rules.decide(found, request, CATALOGUE.name_sensor)
        except errors.TickcellError as error:
            return self, _answer(error)
        if stored < len(frames):
            return self, ("new",)
        outputs = np.frombuffer(rules.stored_outputs(found, first, stored), "<f4")
        last = found.history_before(first + stored)
        return self, ("ok", first, tuple(outputs.tolist()), last)

    def touch(self, generation: int, now: int) -> tuple[RuledSession, Answer]:
        return self._change(
            lambda old: lives.touch(
                lives.live(old, "s", now, self.retention), "s", generation, moment(now)
            )
        )

    def reset(
        self, generation: int, request: str, new_generation: int, now: int
    ) -> tuple[RuledSession, Answer]:
        return self._change(
            lambda old: beginnings.reset(
                lives.live(old, "s", now, self.retention),
                "s",
                generation,
                request,
                new_generation,
                lambda found: cells_start(CATALOGUE.pinned_to(found, "s"), 1),
                moment(now),
            )
        )

    def claim(
        self, generation: int | None, request: str, new_generation: int, now: int
    ) -> tuple[RuledSession, Answer]:
        return self._change(
            lambda old: handovers.claim(
                lives.live(old, "s", now, self.retention),
                "s",
                generation,
                request,
                new_generation,
                moment(now),
            )
        )

    def migrate(
        self,
        generation: int,
        version: str,
        burnt_in: int | None,
        request: str,
        new_generation: int,
        now: int,
    ) -> tuple[RuledSession, Answer]:
        policy = _policy(self.retention)
        model, other = MODELS[version], None
        if burnt_in is not None:
            wanted = self._wanted("another", 1)._replace(
                start=cells_start(model, 1)._replace(state=np.float32(burnt_in).tobytes())
            )
            other = beginnings.create(None, wanted, moment(now), self.retention)
        migrate = Migrate(KEY, generation, request, model, other)

        def change(old: Record | None) -> Record:
            new = migrate.change(old, policy, moment(now))
            if new is old:
                return new
            # What is drawn is known here, and a session keeps its bound on steps.
            life = dataclasses.replace(
                new.life, generation=new_generation, max_step_count=self.most
            )
            return new._replace(life=life)

        return self._change(change)

    def outputs(
        self, generation: int, first: int | None, count: int, now: int
    ) -> tuple[RuledSession, Answer]:
        request = ReadOutputs(KEY, generation, first, count)
        policy = _policy(self.retention)
        try:
            found = request.change(self.record, policy, moment(now))
        except errors.TickcellError as error:
            return self, _answer(error)
        first, count = request.steps(found)
        outputs = np.frombuffer(rules.stored_outputs(found, first, count), "<f4")
        last = found.history_before(first + count)
        return self, ("ok", first, tuple(outputs.tolist()), last)

    def delete(self, generation: int, now: int) -> tuple[RuledSession, Answer]:
        new, answer = self._change(
            lambda old: lives.delete(old, "s", generation, moment(now), self.retention)
        )
        return new, answer[:1]

    def end(self, generation: int, now: int) -> tuple[RuledSession, Answer]:
        new, answer = self._change(
            lambda old: lives.end(old, "s", generation, moment(now), self.retention)
        )
        return new, answer[:1]

    def _change(self, change: Callable[[Record | None], Record]) -> tuple[RuledSession, Answer]:
        try:
            new = change(self.record)
        except errors.TickcellError as error:
            return self, _answer(error)
        encoded = record.encode(KEY, new)
        if encoded != self.stored:
            is_live = lives.is_live(self.record), lives.is_live(new)
            pin = lives.new_pin(self.record, new)
            verdict = self._shelf().commit(Change(KEY, self.stored, encoded, *is_live, pin))
            assert verdict == Applied()
        changed = self._with(encoded)
        return changed, ("ok", new.life.generation, new.next_step)

    def _shelf(self) -> Shelf | StoreShelf:
        return Shelf(self.stored) if self.store is None else StoreShelf(self.store, self.stored)

    def _with(self, stored: bytes | None) -> RuledSession:
        return dataclasses.replace(self, stored=stored, before=self.stored)


@functools.cache
def _policy(retention: int) -> Policy:
    return Policy(CATALOGUE, Limits(), retention, is_strict=True)


def _split(frames: Sequence[Frame]) -> tuple[bytes, tuple[int, ...]]:
    """Returns the readings of frames, and which begin anew, as a request has them."""
    readings = np.array([reading_of(frame) for frame in frames], np.float32)
    resets = [index for index, frame in enumerate(frames) if isinstance(frame, tuple)]
    return readings.tobytes(), tuple(resets)


def _head(encoded: bytes | None) -> Head | None:
    return None if encoded is None else Head(encoded, record.decode(KEY, encoded))


# From what a server begins a step: a load; the session's head; the head of a server that does
# not know of the last change. The answer must not depend on it.
_HEADS: Iterator[Callable[[RuledSession], Head | None]] = itertools.cycle(
    [lambda _: None, lambda session: _head(session.stored), lambda session: _head(session.before)]
)


def _run_round(
    request: rounds.Request,
    policy: Policy,
    shelf: Shelf | StoreShelf,
    head: Head | None,
    now: Moment,
) -> tuple[bytes | None, Any]:
    """Runs rounds until the request is answered; returns what is stored then, and the answer."""
    heads = Heads()
    if head is not None:
        heads.put(KEY, head)
    while True:
        begun, to_load = rounds.begin([request], heads, policy, now)
        if to_load:
            begun, answers = _moved(shelf, rounds.begin_loaded(to_load, heads, policy, now))
            if answers:
                return shelf.load(), answers[0][1]
        answers, _ = _moved(shelf, rounds.finish(begun, heads))
        if answers:
            return shelf.load(), answers[0][1]


class Shelf:
    """Keeps one record as a store does."""

    def __init__(self, encoded: bytes | None) -> None:
        self._encoded = encoded

    def load(self) -> bytes | None:
        return self._encoded

    def commit(self, change: Change) -> Verdict:
        if change.expected != self._encoded:
            return Lost(self._encoded)
        self._encoded = change.replacement
        return Applied()


class StoreShelf:
    """Keeps one record in a store, in which another state of it may lie from before."""

    def __init__(self, store: EmbeddedStore, encoded: bytes | None) -> None:
        self._store = store
        found = self.load()
        if found != encoded:
            # Another branch of the world was there; or time was turned back.
            lives_before = found is not None and lives.is_live(record.decode(KEY, found))
            lives_after = encoded is not None and lives.is_live(record.decode(KEY, encoded))
            change = Change(KEY, found, encoded, lives_before, lives_after)
            assert self.commit(change) == Applied()

    def load(self) -> bytes | None:
        (found,) = self._store.load([KEY])
        return found

    def commit(self, change: Change) -> Verdict:
        while True:
            (verdict,) = self._store.commit([change])
            # A checkpoint is on its way; the driver would try again, too.
            if not isinstance(verdict, Contended):
                return verdict


def _moved(shelf: Shelf | StoreShelf, moves: Generator[Any, Any, _Result]) -> _Result:
    """Gives a round what it needs, and returns what it comes to."""
    try:
        need = next(moves)
        while True:
            need = moves.send(_given(shelf, need))
    except StopIteration as end:
        result: _Result = end.value
        return result


def _given(shelf: Shelf | StoreShelf, need: Any) -> Any:
    match need:
        case rounds.Load():
            return [shelf.load()]
        case Call() | Stretch() | Lockstep():
            return need.compute()
        case rounds.Commit([change]):
            return [shelf.commit(change)]
    raise AssertionError(f"not a need of a step: {need!r}")


def _answer(error: errors.TickcellError) -> Answer:
    word = WORDS[type(error)]
    return (word, int(error.metadata["next_step"])) if word == "gap" else (word,)

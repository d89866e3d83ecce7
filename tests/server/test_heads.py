"""A request that begins from a head gets the answer, and leaves the record, of one that loads."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.counting_cell import CountingCell
from doubles.in_process_server import served
from doubles.moody_cell import GIVES_NAN, RAISES
from server.world import Asked, InlineServer, World
from tickcell.model import Cell
from tickcell.server import errors, record, rounds
from tickcell.server.caller import ANYBODY
from tickcell.server.catalogue import Catalogue
from tickcell.server.heads import NOTHING, Head, Heads
from tickcell.server.rules import StepRequest
from tickcell.server.store import Applied, Change, Key

TTL_S = 100.0
SERIES = {"a": 1, "b": 3}


def said(asked: Asked) -> tuple[object, ...]:
    if asked.error is not None:
        return type(asked.error), str(asked.error), asked.error.metadata
    assert isinstance(asked.answer, rounds.Stepped)
    # How many steps were found stored may differ: who computes what another server has just
    # committed finds none, and still the same record there.
    return tuple(asked.answer[:-1])


class Scene:
    """Sessions "a" and "b" on a server that remembers heads, of which others do not know."""

    def __init__(self, cell: Cell | None = None) -> None:
        self.world = World(cell=cell)
        self.generations = {session: self.create(session) for session in SERIES}
        self.world.create("companion")
        self.companion_step = 0

    def create(self, session: str) -> int:
        created = self.world.create(
            session, SERIES[session], idle_ttl_ns=round(TTL_S * 10**9), server=self.world.other
        )
        return created.life.generation

    def stored(self, session: str) -> bytes | None:
        (encoded,) = self.world.store.load([Key("", session)])
        return encoded

    def next_step(self, session: str) -> int:
        key, encoded = Key("", session), self.stored(session)
        return 0 if encoded is None else record.decode(key, encoded).next_step

    def asked(self, session: str, first_step: int, step_count: int, reading: float) -> Asked:
        frames = np.full((step_count, SERIES[session], 1), reading, "<f4").tobytes()
        generation = self.generations[session]
        return Asked(StepRequest(ANYBODY.key(session), generation, first_step, step_count, frames))

    def send(
        self,
        session: str,
        first_step: int,
        step_count: int = 1,
        reading: float = 1.0,
        *,
        in_company: bool = False,
    ) -> Asked:
        """Sends a step, and checks answer and record against those of a server without heads."""
        before = self.stored(session)
        ordinary = self.asked(session, first_step, step_count, reading)
        # A new one loads everything.
        self.fresh().run(ordinary)
        expected = self.stored(session)
        self.put_back(session, expected, before)
        step = self.asked(session, first_step, step_count, reading)
        if in_company:
            companion = self.world.request("companion", self.companion_step, [3.0])
            self.companion_step += 1
            self.world.run(step, companion)
            assert companion.error is None
        else:
            self.world.run(step)
        assert said(step) == said(ordinary)
        assert self.stored(session) == expected
        return step

    def fresh(self) -> InlineServer:
        return self.world.other_of(self.world.catalogue)

    def put_back(self, session: str, current: bytes | None, earlier: bytes | None) -> None:
        if current != earlier:
            change = Change(Key("", session), current, earlier)
            assert self.world.store.commit([change]) == [Applied()]

    def disturb(self, session: str, event: str) -> None:
        """Does to a session what others may between two ticks; if it is alive."""
        sessions, generation = self.world.other.sessions, self.generations[session]
        with contextlib.suppress(errors.TickcellError):
            if event == "stepped":
                self.fresh().run(self.asked(session, self.next_step(session), 1, 1.0))
            elif event == "touched":
                self.world.clock.advance(0.6 * TTL_S)
                sessions.touch(session, generation)
            elif event == "reset":
                sessions.reset(session, generation, str(uuid.uuid4()))
            elif event == "deleted":
                sessions.delete(session, generation)
            elif event == "idle":
                self.world.clock.advance(TTL_S)
            elif event == "created":
                self.create(session)
            elif event == "attached":
                self.generations[session] = sessions.get(session).life.generation


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("aaaab"),
            st.sampled_from(
                [None] * 8
                + ["stepped", "touched", "reset", "deleted", "idle", "created", "attached"]
            ),
            st.sampled_from([0, 0, 0, 0, 0, -1, -3, -20, 1]),
            st.sampled_from([1, 1, 1, 2, 9]),
            st.sampled_from([1.0] * 8 + [2.0, 1000.0, RAISES, GIVES_NAN, float("inf")]),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_any_step_is_answered_as_if_its_session_had_been_loaded(
    sent: list[tuple[str, str | None, int, int, float, bool]],
) -> None:
    scene = Scene()
    for session, event, offset, step_count, reading, in_company in sent:
        if event is not None:
            scene.disturb(session, event)
        first_step = max(scene.next_step(session) + offset, 0)
        scene.send(session, first_step, step_count, reading, in_company=in_company)


@pytest.mark.parametrize("event", ["none", "stepped", "touched", "reset", "deleted", "idle"])
@pytest.mark.parametrize("reading", [1.0, 2.0, 1000.0, RAISES, GIVES_NAN, float("nan")])
def test_session_that_others_may_have_changed_is_answered_as_it_is_now(
    event: str, reading: float
) -> None:
    scene = Scene()
    for step in range(3):
        scene.send("a", step)
    scene.disturb("a", event)
    scene.send("a", 3, reading=reading)
    scene.send("a", scene.next_step("a"))


def test_steps_in_a_row_are_loaded_once() -> None:
    world = World()
    world.create("a")
    requests = [world.request("a", step, [1.0]) for step in range(20)]
    loads = world.store.load_count
    for request in requests:
        world.run(request)
        assert request.error is None
    assert world.store.load_count <= loads + 1


def test_refusal_and_stored_answer_come_from_a_load() -> None:
    world = World()
    world.create("a")
    world.run(world.request("a", 0, [1.0]))
    for asked in (
        world.request("a", 0, [1.0]),
        world.request("a", 5, [1.0]),
        world.request("a", 0, [2.0]),
    ):
        loads = world.store.load_count
        world.run(asked)
        assert world.store.load_count == loads + 1


def test_servers_that_take_turns_at_a_session_continue_each_other() -> None:
    world = World()
    world.create("a")
    servers = [world.server, world.server_of(world.catalogue)]
    outputs = []
    for step in range(12):
        asked = world.request("a", step, [float(step)])
        servers[step % 5 % 2].run(asked)
        outputs += asked.outputs
    assert outputs == [step + 1000.0 * step for step in range(12)]


def test_session_of_a_restored_store_goes_on_from_where_that_stands() -> None:
    scene = Scene()
    backup = scene.stored("a")
    for _ in range(2):
        for step in range(3):
            assert scene.send("a", step, reading=5.0).outputs == [5.0 + 1000.0 * step]
        scene.put_back("a", scene.stored("a"), backup)


@pytest.mark.parametrize("is_strict", [False, True])
@pytest.mark.parametrize("change", ["model withdrawn", "numerics changed", "ranges narrowed"])
def test_head_is_refused_by_a_server_that_has_changed_as_a_load_is(
    change: str, *, is_strict: bool
) -> None:
    world = World()
    world.create("a")
    model = world.model
    catalogues: dict[str, Callable[[], Catalogue]] = {
        "model withdrawn": lambda: Catalogue([served(CountingCell(), "another")]),
        "numerics changed": lambda: Catalogue([dataclasses.replace(model, numerics=b"elsewher")]),
        "ranges narrowed": lambda: Catalogue([model]),
    }
    reading = 501.0 if change == "ranges narrowed" else 1.0
    world.run(world.request("a", 0, [1.0]))
    changed = world.server_of(catalogues[change](), is_strict=is_strict)
    # A look remembers the head, from which the step begins then.
    changed.sessions.get("a")
    loads = world.store.load_count
    from_head, from_load = (world.request("a", 1, [reading]) for _ in range(2))
    loads = world.store.load_count
    before = world.store.load([Key("", "a")])
    changed.run(from_head)
    after = world.store.load([Key("", "a")])
    if before != after:
        world.store.commit([Change(Key("", "a"), after[0], before[0])])
    world.other_of(catalogues[change](), is_strict=is_strict).run(from_load)
    assert said(from_head) == said(from_load)
    assert world.store.load_count > loads


def test_ended_session_takes_no_room_among_the_heads() -> None:
    world = World()
    life = world.create("a", server=world.other).life
    assert world.other.heads.get(Key("", "a")) is not None
    world.other.sessions.delete("a", life.generation)
    assert world.other.heads.get(Key("", "a")) is None


class DeafCell(CountingCell):
    """Counts, and hears nothing: not even a NaN comes out again."""

    def step_rows(self, rows: bytes | memoryview) -> bytes:
        readings = np.nan_to_num(np.frombuffer(rows, "<f4"))
        return super().step_rows(readings.tobytes())


def test_reading_that_is_not_finite_is_refused_though_the_cell_would_bear_it() -> None:
    scene = Scene(DeafCell())
    for step in range(3):
        scene.send("a", step)
    assert isinstance(scene.send("a", 3, reading=float("nan")).error, errors.FrameNotFinite)


class TestBound:
    def head(self, size: int) -> Head:
        world = World()
        return Head(bytes(size), world.create("a"))

    def test_those_used_least_recently_go_first(self) -> None:
        heads = Heads(3 * (1024 + 2 * 1000))
        head = self.head(1000)
        for session in "abc":
            heads.put(Key("", session), head)
        heads.put(Key("", "a"), head)
        heads.put(Key("", "d"), head)
        kept = [session for session in "abcd" if heads.get(Key("", session)) is not None]
        assert kept == ["a", "c", "d"]

    def test_one_that_is_larger_than_the_bound_is_not_kept(self) -> None:
        heads = Heads(4096)
        heads.put(Key("", "a"), self.head(10_000))
        assert heads.get(Key("", "a")) is None
        heads.put(Key("", "b"), self.head(1000))
        assert heads.get(Key("", "b")) is not None

    def test_session_that_is_no_more_has_no_head(self) -> None:
        heads = Heads()
        heads.put(Key("", "a"), self.head(1000))
        heads.put(Key("", "a"), NOTHING)
        assert heads.get(Key("", "a")) is None

    def test_what_is_forgotten_gives_its_room_back(self) -> None:
        heads = Heads(2 * (1024 + 2 * 1000))
        head = self.head(1000)
        for _ in range(10):
            heads.put(Key("", "a"), head)
            heads.forget(Key("", "a"))
        for session in "ab":
            heads.put(Key("", session), head)
        assert all(heads.get(Key("", session)) is not None for session in "ab")

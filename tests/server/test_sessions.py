"""The lives of sessions where the store is full, damaged or crowded."""

from __future__ import annotations

import pytest

from server.turns import RETENTION_NS, World, assert_counted
from tickcell.server import errors, record, records
from tickcell.server.records import Records
from tickcell.server.sessions import Creation, Sessions
from tickcell.server.store import Change


def damage(world: World, session: str) -> None:
    key = records.key(session)
    (encoded,) = world.store.load([key])
    assert encoded is not None
    world.store.commit([Change(key, encoded, encoded[:-1] + b"?")])


class TestFullStore:
    def test_creation_is_refused_and_creates_nothing(self) -> None:
        world = World()
        world.store.is_full = True
        with pytest.raises(errors.StoreFull):
            world.create("a")
        assert sum(world.store.counts()) == 0

    def test_touch_reset_and_delete_are_refused_and_change_nothing(self) -> None:
        world = World()
        before = world.create("a", idle_ttl_ns=10**9)
        generation = before.life.generation
        world.store.is_full = True
        for change in (
            lambda: world.sessions.touch("a", generation),
            lambda: world.sessions.reset("a", generation, "again"),
            lambda: world.sessions.delete("a", generation),
        ):
            with pytest.raises(errors.StoreFull, match="a: nothing was applied"):
                change()
        assert world.sessions.get("a") == before

    def test_repeated_requests_are_answered_all_the_same(self) -> None:
        world = World()
        generation = world.create("a", request_id="first").life.generation
        reset = world.sessions.reset("a", generation, "again")
        deleted = world.create("b").life.generation
        world.sessions.delete("b", deleted)
        world.store.is_full = True
        assert world.create("a", request_id="first") == reset
        assert world.sessions.reset("a", generation, "again") == reset
        world.sessions.delete("b", deleted)


class TestDamagedRecord:
    @pytest.fixture
    def world(self) -> World:
        """Three sessions, of which the second has a damaged record."""
        made = World()
        made.create_all("a", "b", "c")
        damage(made, "b")
        return made

    def test_it_is_refused_by_name(self, world: World) -> None:
        for call in (
            lambda: world.sessions.get("b"),
            lambda: world.sessions.touch("b", 1),
            lambda: world.sessions.reset("b", 1, "again"),
            lambda: world.sessions.delete("b", 1),
            lambda: world.create("b"),
        ):
            with pytest.raises(errors.RecordDamaged, match=r"^b: a record of") as caught:
                call()
            assert caught.value.metadata["session"] == "b"

    def test_the_others_are_listed_and_step(self, world: World) -> None:
        listed, last = world.sessions.list("", 10)
        assert ([session for session, _ in listed], last) == (["a", "c"], "")
        request = world.request("c", 0, [1.0])
        world.run(request)
        assert_counted(request, 0, [1.0])


class TestCrowdedStore:
    @pytest.fixture
    def world(self) -> World:
        return World()

    @pytest.fixture
    def sessions(self, world: World) -> Sessions:
        """Sessions of which there may be two."""
        return Sessions(
            Records(world.store),
            world.catalogue,
            world.clock,
            retention_ns=RETENTION_NS,
            max_sessions=2,
            max_record_bytes=2**20,
        )

    def create(self, sessions: Sessions, world: World, session: str) -> record.Record:
        return sessions.create(world.model, Creation(session, session, 1, 8, 10**9, {}))

    def test_one_more_session_is_refused(self, world: World, sessions: Sessions) -> None:
        self.create(sessions, world, "a")
        self.create(sessions, world, "b")
        with pytest.raises(errors.SessionsFull) as caught:
            self.create(sessions, world, "c")
        assert caught.value.metadata == {
            "session": "c",
            "session_count": "2",
            "max_session_count": "2",
        }
        assert sum(world.store.counts()) == 2

    def test_those_there_are_can_be_created_again(self, world: World, sessions: Sessions) -> None:
        self.create(sessions, world, "a")
        created = self.create(sessions, world, "b")
        assert self.create(sessions, world, "b") == created
        sessions.delete("b", created.life.generation)
        wanted = Creation("b", "another", 1, 8, 10**9, {})
        assert sessions.create(world.model, wanted).life.generation != created.life.generation

    def test_there_is_room_once_an_end_is_forgotten(self, world: World, sessions: Sessions) -> None:
        self.create(sessions, world, "a")
        self.create(sessions, world, "b")
        world.clock.advance_ns(10**9 + RETENTION_NS)
        assert sessions.sweep() == 2
        assert self.create(sessions, world, "c").next_step == 0

"""The lives of sessions where the store is full, damaged or crowded."""

from __future__ import annotations

import struct
import uuid
import zlib

import pytest

from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from server.world import RETENTION_NS, Asked, World, assert_counted
from tickcell.conformance.caller import Caller, Refused
from tickcell.server import errors
from tickcell.server.config import Limits
from tickcell.server.record import Record
from tickcell.server.rules import StepRequest
from tickcell.server.store import Change, Key
from tickcell.server.sweep import SCAN_LIMIT
from tickcell.v1 import session_service_pb2 as pb


def damage(world: World, session: str) -> None:
    key = Key("", session)
    (encoded,) = world.store.load([key])
    assert encoded is not None
    world.store.commit([Change(key, encoded, encoded[:-1] + bytes([encoded[-1] ^ 1]))])


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
            with pytest.raises(errors.RecordDamaged, match=r"^b: its record of") as caught:
                call()
            assert caught.value.metadata["session"] == "b"

    def test_the_others_are_listed_and_step(self, world: World) -> None:
        assert world.server.list("", 10) == (["a", "c"], "")
        request = world.request("c", 0, [1.0])
        world.run(request)
        assert_counted(request, 0, [1.0])


class TestCrowdedStore:
    @pytest.fixture
    def world(self) -> World:
        """A world with room for two sessions."""
        return World(limits=Limits(max_sessions=2))

    def create(self, world: World, session: str) -> Record:
        return world.create(session, idle_ttl_ns=10**9, request_id=session)

    def test_one_more_session_is_refused(self, world: World) -> None:
        self.create(world, "a")
        self.create(world, "b")
        with pytest.raises(errors.SessionsFull) as caught:
            self.create(world, "c")
        assert caught.value.metadata == {"session": "c", "max_session_count": "2"}
        assert sum(world.store.counts()) == 2

    def test_of_two_that_come_at_once_one_finds_room(self, world: World) -> None:
        self.create(world, "a")
        world.store.interruptions.append(
            lambda: world.create("b", server=world.other, request_id="b")
        )
        self.create(world, "c")
        # The bound is looked at beside the commit, not in it.
        assert world.store.counts().live == 3
        with pytest.raises(errors.SessionsFull):
            self.create(world, "d")

    def test_those_there_are_can_be_created_again(self, world: World) -> None:
        self.create(world, "a")
        created = self.create(world, "b")
        assert self.create(world, "b") == created

    def test_deleted_session_makes_room_at_once(self, world: World) -> None:
        self.create(world, "a")
        created = self.create(world, "b")
        world.sessions.delete("b", created.life.generation)
        assert self.create(world, "c").next_step == 0

    def test_expired_session_makes_room_once_it_is_swept(self, world: World) -> None:
        self.create(world, "a")
        self.create(world, "b")
        world.clock.advance_ns(10**9)
        assert world.sweep() == 0
        assert world.store.counts() == (0, 2)
        assert self.create(world, "c").next_step == 0


class TestManyThatEnded:
    def test_the_oldest_ends_are_forgotten_early(self) -> None:
        world = World(limits=Limits(max_ended=3))
        for index in range(8):
            life = world.create(f"s{index}").life
            world.sessions.delete(f"s{index}", life.generation)
            world.clock.advance(1.0)
        assert world.sweep() >= 4
        kept = []
        for index in range(8):
            try:
                world.sessions.get(f"s{index}")
            except errors.SessionDeleted:
                kept.append(index)
            except errors.SessionUnknown:
                pass
        assert kept
        assert kept == list(range(8 - len(kept), 8))
        assert len(kept) <= 3

    def test_session_that_expired_counts_as_ended(self) -> None:
        world = World(limits=Limits(max_ended=3))
        world.create_all("forever")
        for index in range(8):
            world.create(f"s{index}", idle_ttl_ns=10**9)
        world.clock.advance(2.0)
        world.sweep()
        world.clock.advance(2.0)
        world.sweep()
        assert world.store.counts().live == 1
        assert world.store.counts().ended <= 3

    def test_sweep_that_fails_at_the_end_forgets_nothing_early(self) -> None:
        world = World(limits=Limits(max_ended=10))
        for index in range(8):
            life = world.create(f"s{index}", idle_ttl_ns=10**9).life
            world.clock.advance(0.01)
            if index % 2:
                world.sessions.delete(f"s{index}", life.generation)
        world.clock.advance(2.0)
        world.store.is_full = True
        for _ in range(3):
            with pytest.raises(errors.StoreFull):
                world.sweep()
        world.store.is_full = False
        assert world.sweep() == 0
        assert world.store.counts() == (0, 8)


def test_sweep_of_a_store_that_was_put_back_forgets_nothing_by_the_time_it_had() -> None:
    world = World(limits=Limits(max_ended=1))
    world.clock.advance(1000.0)
    # More than one slice, so that it fails before it has been through.
    world.create_all("a", "b", *(f"s{index}" for index in range(SCAN_LIMIT)))
    for session in "ab":
        world.sessions.delete(session, world.sessions.get(session).life.generation)
    world.store.is_full = True
    with pytest.raises(errors.StoreFull):
        world.sweep()
    world.store.is_full = False
    # It had learnt what to forget; now the store is one of long before.
    for key, encoded in world.store.scan(None, None, 2):
        world.store.commit([Change(key, encoded, None, was_live=False, is_live=False)])
    world.clock.advance(-500.0)
    world.sweeper.start_over()
    world.create("c")
    world.sessions.delete("c", world.sessions.get("c").life.generation)
    world.sweep()
    with pytest.raises(errors.SessionDeleted):
        world.sessions.get("c")


def test_every_answer_about_lives_names_the_store() -> None:
    models = [served(CountingCell())]
    with (
        InProcessServer(models) as server,
        InProcessServer(models) as another,
        Caller(server.address) as caller,
    ):
        store_id = server.records.id
        assert len(bytes.fromhex(store_id)) == 16
        assert store_id != another.records.id
        nothing = caller.call(caller.sessions.ListSessions, pb.ListSessionsRequest())
        session = caller.create(session="a")
        shown = [
            session,
            caller.get("a"),
            caller.touch("a", session.generation),
            caller.reset("a", session.generation, str(uuid.uuid4())),
        ]
        generation = shown[-1].generation
        listed = caller.call(caller.sessions.ListSessions, pb.ListSessionsRequest())
        request = pb.DeleteSessionRequest(session="a", generation=generation)
        deleted = caller.call(caller.sessions.DeleteSession, request)
        named = [nothing, *shown, listed, *listed.sessions, deleted]
        assert {answer.store_id for answer in named} == {store_id}
        for refused in (
            lambda: caller.get("a"),
            lambda: caller.touch("a", generation),
            lambda: caller.reset("a", generation, str(uuid.uuid4())),
            lambda: caller.delete("a", generation + 1),
            lambda: caller.create(series_count=-1),
        ):
            with pytest.raises(Refused) as caught:
                refused()
            assert caught.value.metadata["store_id"] == store_id


def test_record_of_a_newer_server_is_refused_by_name_and_left_alone() -> None:
    world = World()
    world.create_all("a", "b", "c")
    key = Key("", "b")
    (encoded,) = world.store.load([key])
    assert encoded is not None
    body = encoded[:2] + struct.pack("<H", 7) + encoded[4:-4]
    newer = body + struct.pack("<I", zlib.crc32(body, zlib.crc32(b"\0b")))
    world.store.commit([Change(key, encoded, newer)])
    for call in (
        lambda: world.sessions.get("b"),
        lambda: world.sessions.touch("b", 1),
        lambda: world.sessions.reset("b", 1, "again"),
        lambda: world.sessions.delete("b", 1),
        lambda: world.create("b"),
    ):
        with pytest.raises(errors.RecordNewer, match=r"^b: its record has version 7"):
            call()
    step, neighbour = Asked(StepRequest(key, 1, 0, 1, bytes(4))), world.request("c", 0, [1.0])
    world.run(step, neighbour)
    assert isinstance(step.error, errors.RecordNewer)
    assert_counted(neighbour, 0, [1.0])
    assert world.server.list("", 10) == (["a", "c"], "")
    world.clock.advance_ns(100 * RETENTION_NS)
    assert world.sweep() == 0
    assert world.store.load([key]) == [newer]

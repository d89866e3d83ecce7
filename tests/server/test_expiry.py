"""Sessions expire when they were idle for their time, never earlier, and are then forgotten."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from server.world import RETENTION_NS, World, assert_counted
from tickcell.server import errors
from tickcell.server.config import Limits
from tickcell.server.record import Record
from tickcell.server.store import Change, Key
from tickcell.server.sweep import SCAN_LIMIT

TTL_NS = 60 * 10**9


@pytest.fixture
def world() -> World:
    """A world with a session "a", created now, that expires after a minute."""
    made = World()
    made.create("a", idle_ttl_ns=TTL_NS, request_id="first")
    return made


def is_alive(world: World) -> bool:
    try:
        world.sessions.get("a")
    except errors.SessionExpired:
        return False
    return True


def assert_expires_after(world: World, nanoseconds: int) -> None:
    """Holds the session to the very nanosecond of its end."""
    world.clock.advance_ns(nanoseconds - 1)
    assert is_alive(world)
    world.clock.advance_ns(1)
    assert not is_alive(world)


def test_idle_session_expires_after_its_time_to_live_and_not_before(world: World) -> None:
    assert_expires_after(world, TTL_NS)


def test_session_is_stepped_in_its_last_moment_and_not_a_moment_later(world: World) -> None:
    request = world.request("a", 0, [1.0])
    world.clock.advance_ns(TTL_NS - 1)
    world.run(request)
    assert_counted(request, 0, [1.0])
    late = world.request("a", 1, [2.0])
    world.clock.advance_ns(TTL_NS)
    world.run(late)
    assert isinstance(late.error, errors.SessionExpired)


@pytest.mark.parametrize(
    "renew",
    [
        lambda world, life: world.run(world.request("a", 1, [2.0])),
        lambda world, life: world.run(world.request("a", 0, [1.0, 2.0])),
        lambda world, life: world.sessions.touch("a", life.generation),
        lambda world, life: world.sessions.reset("a", life.generation, "again"),
    ],
    ids=["step", "partly new step", "touch", "reset"],
)
def test_what_changes_a_session_renews_it(
    world: World, renew: Callable[[World, object], object]
) -> None:
    world.run(world.request("a", 0, [1.0]))
    world.clock.advance_ns(TTL_NS - 1)
    renew(world, world.sessions.get("a").life)
    assert_expires_after(world, TTL_NS)


@pytest.mark.parametrize(
    "look",
    [
        lambda world: world.sessions.get("a"),
        lambda world: world.server.list("", 10),
        lambda world: world.run(world.request("a", 0, [1.0])),
        lambda world: world.run(world.request("a", 0, [9.0])),
        lambda world: world.run(world.request("a", 7, [1.0])),
        lambda world: world.create("a", request_id="first"),
    ],
    ids=["get", "list", "duplicate", "conflict", "gap", "same creation"],
)
def test_what_changes_nothing_does_not_renew(world: World, look: Callable[[World], object]) -> None:
    world.run(world.request("a", 0, [1.0]))
    world.clock.advance_ns(TTL_NS // 2)
    look(world)
    assert_expires_after(world, TTL_NS - TTL_NS // 2)


def test_session_that_never_expires_does_not(world: World) -> None:
    world.create("b")
    world.clock.advance_ns(1000 * TTL_NS)
    assert world.sessions.get("b").next_step == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda world, generation: world.sessions.touch("a", generation),
        lambda world, generation: world.sessions.reset("a", generation, "again"),
        lambda world, generation: world.sessions.delete("a", generation),
        lambda world, generation: world.create("a", request_id="first"),
    ],
    ids=["touch", "reset", "delete", "same creation"],
)
def test_nothing_revives_an_expired_session(
    world: World, change: Callable[[World, int], object]
) -> None:
    generation = world.sessions.get("a").life.generation
    world.clock.advance_ns(TTL_NS)
    with pytest.raises(errors.SessionExpired):
        change(world, generation)
    assert not is_alive(world)


@pytest.mark.parametrize(
    "renew",
    [
        lambda world, life: world.run(world.request("a", 0, [1.0])),
        lambda world, life: world.sessions.touch("a", life.generation),
        lambda world, life: world.sessions.reset("a", life.generation, "again"),
    ],
    ids=["step", "touch", "reset"],
)
def test_clock_that_goes_back_ends_no_session_early(
    world: World, renew: Callable[[World, object], object]
) -> None:
    world.clock.advance_ns(-TTL_NS)
    renew(world, world.sessions.get("a").life)
    world.clock.advance_ns(TTL_NS)
    assert_expires_after(world, TTL_NS)


def expire(world: World) -> Record:
    """Lets the session expire; returns what it was."""
    before = world.sessions.get("a")
    world.clock.advance_ns(TTL_NS)
    return before


def delete(world: World) -> Record:
    """Deletes the session; returns what it was."""
    before = world.sessions.get("a")
    world.sessions.delete("a", before.life.generation)
    return before


ENDS = pytest.mark.parametrize(
    ("end", "reason"), [(expire, errors.SessionExpired), (delete, errors.SessionDeleted)]
)


@ENDS
def test_end_is_remembered_for_the_retention(
    world: World, end: Callable[[World], Record], reason: type[Exception]
) -> None:
    end(world)
    world.clock.advance_ns(RETENTION_NS - 1)
    with pytest.raises(reason):
        world.sessions.get("a")
    world.clock.advance_ns(1)
    with pytest.raises(errors.SessionUnknown):
        world.sessions.get("a")


@ENDS
def test_id_can_be_used_anew_at_once(
    world: World, end: Callable[[World], Record], reason: type[Exception]
) -> None:
    before = end(world)
    assert world.create("a").life.generation != before.life.generation


@ENDS
def test_ended_session_is_not_listed(
    world: World, end: Callable[[World], Record], reason: type[Exception]
) -> None:
    end(world)
    assert world.server.list("", 10) == ([], "")


@ENDS
def test_sweep_removes_the_end_when_it_is_forgotten_and_not_before(
    world: World, end: Callable[[World], Record], reason: type[Exception]
) -> None:
    end(world)
    world.clock.advance_ns(RETENTION_NS - 1)
    assert world.sweep() == 0
    world.clock.advance_ns(1)
    assert world.sweep() == 1
    assert sum(world.store.counts()) == 0


def test_sweep_leaves_the_living_alone(world: World) -> None:
    world.clock.advance_ns(RETENTION_NS + TTL_NS // 2)
    world.create("b", idle_ttl_ns=TTL_NS)
    world.clock.advance_ns(TTL_NS // 2)
    assert world.sweep() == 1
    assert world.server.list("", 10)[0] == ["b"]


def test_sweep_looks_at_so_many_records_at_once_and_at_all_in_turn(world: World) -> None:
    count = 4 * SCAN_LIMIT + 10
    for index in range(count - 1):
        world.create(f"b{index}", idle_ttl_ns=TTL_NS if index % 2 else 0)
    world.clock.advance_ns(TTL_NS + RETENTION_NS)
    removed = [world.sweep() for _ in range(3)]
    # Of two slices' records, about every second one is forgotten.
    assert max(removed) <= SCAN_LIMIT + 1
    assert sum(world.store.counts()) == count - sum(removed) == count // 2
    # And then from the beginning.
    world.create("a", idle_ttl_ns=TTL_NS)
    world.clock.advance_ns(TTL_NS + RETENTION_NS)
    assert sum(world.sweep() for _ in range(3)) == 1


def test_sweep_looks_at_many_more_where_no_session_can_be_created() -> None:
    count = 8 * SCAN_LIMIT
    world = World(limits=Limits(max_sessions=count))
    for index in range(count):
        world.create(f"b{index}", idle_ttl_ns=TTL_NS)
    world.clock.advance_ns(TTL_NS)
    with pytest.raises(errors.SessionsFull):
        world.create("a")
    world.sweep()
    world.create("a")
    assert world.store.counts().live == 1


@pytest.mark.parametrize("idle_ttl_ns", [0, TTL_NS])
@pytest.mark.parametrize("waited_ns", [TTL_NS, TTL_NS + RETENTION_NS])
def test_session_that_is_created_anew_during_the_sweep_stays(
    world: World, waited_ns: int, idle_ttl_ns: int
) -> None:
    world.clock.advance_ns(waited_ns)
    world.store.interruptions.append(
        lambda: world.create("a", server=world.other, idle_ttl_ns=idle_ttl_ns)
    )
    assert world.sweep() == 0
    assert world.sessions.get("a").next_step == 0


def test_sweep_of_large_records_comes_to_the_last_one(world: World) -> None:
    # So large that few of them are looked at in one slice.
    for index in range(64):
        world.create(f"b{index}", series_count=8192)
    world.create("z", idle_ttl_ns=TTL_NS)
    world.clock.advance_ns(TTL_NS + RETENTION_NS)
    # The first record is gone at once, the last one not.
    assert world.sweep() == 1
    assert sum(world.sweep() for _ in range(20)) == 1


def test_sweep_passes_over_a_damaged_record(world: World) -> None:
    world.create("b")
    (encoded,) = world.store.load([Key("", "b")])
    world.store.commit([Change(Key("", "b"), encoded, b"damage")])
    world.clock.advance_ns(TTL_NS + RETENTION_NS)
    assert world.sweep() == 1
    assert world.store.load([Key("", "b")]) == [b"damage"]


def test_full_store_keeps_what_cannot_be_swept(world: World) -> None:
    world.clock.advance_ns(TTL_NS + RETENTION_NS)
    world.store.is_full = True
    with pytest.raises(errors.StoreFull):
        world.sweep()
    world.store.is_full = False
    assert world.sweep() == 1

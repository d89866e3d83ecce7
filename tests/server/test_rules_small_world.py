"""Every request that could arrive, in every state of a small world, against plain Python.

A network that loses, doubles, delays and reorders lets any request arrive at any
time, however old. So it is enough to try each request there is in each state
that can be reached: two writers' frames, every chunking, every history that they may
expect, every generation up to now, and time passing.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import pathlib
import struct
from typing import Any

import pytest

from databases import Databases
from doubles.plain_session import ADDS, Frame, PlainSession, history_of
from doubles.ruled_session import RuledSession, moment
from tickcell.server import beginnings
from tickcell.server.store import EmbeddedStore, SqliteStore

# A request may have fewer steps than the window, as where its rows are bounded.
WINDOW, MOST, TTL, RETENTION = 3, 2, 3, 2
STEPS = 4
# The frames of two writers, or of one at whose frames a series begins anew, or goes on.
WRITERS: tuple[Frame, Frame] = (1.0, 2.0)
EPISODES: tuple[Frame, Frame] = (1.0, (1.0,))
# What can be left out: with all of it together, a world takes minutes.
LOOKS = ("wait", "preview", "recall", "outputs")
TIMELESS = ("fork", "brought", "forked", "preview", "move", "migrate")
TIMED = ("wait", "touch", "delete", "end", "recall", "begin")
IMPOSSIBLE_CHUNKS = [(), (1.0, 1.0, 1.0), (math.nan,), (1.0, math.inf)]


WORDS = {
    *("ok", "new", "unknown", "deleted", "moved", "expired", "exists", "restarted", "claimed"),
    *("shape", "not finite", "stale", "gap", "conflict", "argument", "migration"),
}
# Words that are heard only where the request is tried, or time passes.
WORDS_OF = {
    "wait": ("expired",),
    "delete": ("deleted",),
    "recall": ("new",),
    "move": ("moved",),
    "migrate": ("migration",),
}


def requests(begun: int, most_lives: int, given: tuple[Frame, Frame]) -> list[tuple[Any, ...]]:
    """Every request that could be on its way when so many lives have begun."""
    one, other = given
    chunks = [frames for length in (1, 2) for frames in itertools.product(given, repeat=length)]
    # The frames that a caller may believe to be before a step: those of each writer alone,
    # and of one after the other.
    expected = [
        {(one,) * step, (other,) * step, (one,) * (step - 1) + (other,) * min(step, 1)}
        for step in range(STEPS + 1)
    ]
    branches_of = [((one,),), ((other, one), (one, other)), ((one,) * 3,), ((one,), (math.nan,))]
    generations = [None, *range(1, begun + 1)]
    asked: list[tuple[Any, ...]] = [
        ("step", generation, first, frames, None)
        for generation in generations
        for first in ([None] if generation is None else range(STEPS + 1))
        for frames in chunks + IMPOSSIBLE_CHUNKS
    ]
    asked += [
        ("step", generation, first, frames, before)
        for generation in generations[1:]
        for first in range(STEPS + 1)
        for frames in ((one,), (one, other))
        for before in expected[first]
    ]
    asked += [("touch", generation) for generation in generations[1:]]
    asked += [("delete", generation) for generation in generations[1:]]
    asked += [("end", generation) for generation in generations[1:]]
    asked += [
        ("move", generation, request) for generation in generations[1:] for request in ("m1", "m2")
    ]
    asked += [
        ("recall", generation, first, frames)
        for generation in generations[1:]
        for first in range(STEPS + 1)
        for frames in ((one,), (one, other))
    ]
    asked += [
        ("outputs", generation, first, count)
        for generation in generations[1:]
        for first in (None, *range(STEPS + 2))
        for count in range(-1, MOST + 2)
    ]
    asked += [
        ("forked", generation, step)
        for generation in generations[1:]
        for step in (None, *range(-1, STEPS + 1))
    ]
    asked += [
        ("preview", generation, step, branches)
        for generation in generations[1:]
        for step in range(-1, STEPS + 1)
        for branches in branches_of
    ]
    if begun < most_lives:
        asked += [
            ("migrate", generation, version, burnt_in, "v", begun + 1)
            for generation in generations[1:]
            for version in ADDS
            for burnt_in in (None, 7)
        ]
        asked += [
            ("fork", request, source, begun + 1)
            for request in ("c1", "f1")
            for source in ((), (other, one))
        ]
        asked += [("brought", "b1", (one, other), kept, begun + 1) for kept in (0, 2)]
        asked += [
            ("claim", generation, request, begun + 1)
            for generation in generations
            for request in ("k1", "k2")
        ]
        asked += [
            ("reset", generation, request, begun + 1)
            for generation in generations[1:]
            for request in ("r1", "r2")
        ]
        asked += [
            (name, request, begun + 1) for name in ("create", "begin") for request in ("c1", "c2")
        ]
    return asked


def assert_holds(ruled: RuledSession, plain: PlainSession) -> None:
    """Asserts that the record says of the session just what plain Python does.

    So two records of one plain session have one future, and one of them need be tried.
    """
    record = ruled.record
    assert (record is None) == (plain.life is None)
    if record is None:
        return
    life, frames = record.life, plain.lived.frames
    assert (life.generation, record.next_step) == plain.view()
    assert (life.request_id, life.model_version) == (plain.create_request, plain.version)
    assert (life.reset_request_id, life.claim_request_id, life.migrate_request_id) == (
        plain.lived.reset_request,
        plain.lived.claim_request,
        plain.lived.migrate_request,
    )
    assert (life.follows, life.past, life.is_claimed) == (
        plain.follows,
        plain.ends,
        plain.is_claimed,
    )
    assert (record.renew_ns, record.renew_wall_ns) == moment(plain.renewed)
    assert life.delete_ns == plain.deleted
    first = max(plain.lived.kept_from, len(frames) - WINDOW)
    if life.is_deleted and not plain.keeps_window:
        first = len(frames)
    window = frames[first:]
    assert record.kept == len(window)
    assert record.histories == b"".join(
        history_of(frames[:step]) for step in range(first, len(frames) + 1)
    )
    outputs, count, start = plain.lived.outputs, plain.lived.count, plain.start
    assert record.outputs == struct.pack(f"<{len(window)}f", *outputs[first:])
    assert life.move_request_id == plain.moved_by
    is_buried = life.is_deleted and not plain.moved_by
    assert record.state == (b"" if is_buried else struct.pack("<f", count))
    origin = beginnings.origin_of(record)
    assert (life.origin_step, life.has_origin) == (len(plain.origin), plain.is_fork)
    if origin is not None and not is_buried:
        assert origin.state == struct.pack("<f", start)
        assert origin.histories == history_of(plain.origin)


def key(plain: PlainSession, begun: int, now: int) -> tuple[object, ...]:
    """What the future can depend on: times count only relative to now."""
    deleted = None if plain.deleted is None else min(now - plain.deleted, RETENTION)
    idle = min(now - plain.renewed, TTL + RETENTION)
    return (
        *(plain.life, plain.create_request, plain.follows, plain.keeps_window),
        *(plain.ends, plain.is_claimed, plain.origin, plain.is_fork, plain.moved_by),
        *(plain.start, plain.version),
        *(deleted, idle, begun),
    )


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("most_lives", "most_steps", "given", "but"),
    [
        pytest.param(1, STEPS, WRITERS, TIMELESS, id="steps and time"),
        pytest.param(2, 1, WRITERS, TIMELESS, id="lives and time"),
        pytest.param(1, 3, EPISODES, TIMED, id="episodes and copies"),
        pytest.param(2, 2, WRITERS, TIMED, id="lives and copies"),
        pytest.param(2, 2, EPISODES, (), id="all", marks=pytest.mark.slow),
        pytest.param(3, 2, EPISODES, LOOKS, id="three lives", marks=pytest.mark.slow),
    ],
)
def test_every_request_in_every_state_is_answered_as_plain_python_says(
    most_lives: int, most_steps: int, given: tuple[Frame, Frame], but: tuple[str, ...]
) -> None:
    """Each step more has about two and a half times as many states, and each life more six times.

    So `all` has two of each, and three minutes of computing: two lives of four steps would take
    twenty, and three of them hours.
    """
    assert_world_is_right(most_lives, most_steps, None, given, but)


@pytest.mark.lengthy
def test_so_it_is_on_sqlite(tmp_path: pathlib.Path) -> None:
    with contextlib.closing(SqliteStore.open(tmp_path / "store")) as store:
        assert_world_is_right(1, 3, store, WRITERS, TIMELESS)
        assert_world_is_right(1, 3, store, EPISODES, TIMED)


def test_so_it_is_on_postgresql(databases: Databases) -> None:
    with contextlib.closing(databases.store()) as store:
        assert_world_is_right(1, 1, store, WRITERS, TIMELESS)
        assert_world_is_right(1, 1, store, EPISODES, TIMED)


def assert_world_is_right(
    most_lives: int,
    most_steps: int,
    store: EmbeddedStore | None,
    given: tuple[Frame, Frame] = WRITERS,
    but: tuple[str, ...] = (),
) -> None:
    """Tries each request in each state, of so many lives and steps, in a store or in none.

    Args:
      most_lives: how many there may be.
      most_steps: beyond so many, no state is looked at.
      store: where the session lies; None for a plain value.
      given: the frames that there are.
      but: the names of what is not tried.
    """
    bounds = (WINDOW, MOST, TTL, RETENTION)
    start = (PlainSession(*bounds), RuledSession(*bounds, store=store), 0, 10)
    seen, frontier, tried = {key(start[0], 0, 10)}, [start], 0
    words = set()
    while frontier:
        plain, ruled, begun, now = frontier.pop()
        for name, *arguments in [*requests(begun, most_lives, given), ("wait",)]:
            if name in but:
                continue
            if name == "wait":
                successor = (plain, ruled, begun, now + 1)
            else:
                new_plain, expected = getattr(plain, name)(*arguments, now)
                new_ruled, got = getattr(ruled, name)(*arguments, now)
                tried += 1
                words.add(expected[0])
                assert got == expected, (name, arguments, plain, now)
                if expected[0] != "ok":
                    assert new_ruled.stored == ruled.stored
                if new_ruled.stored == ruled.stored:
                    assert new_plain == plain
                else:
                    assert_holds(new_ruled, new_plain)
                began = new_plain.life is not None and new_plain.life.generation > begun
                successor = (new_plain, new_ruled, begun + began, now)
            if successor[0].life is not None and len(successor[0].life.frames) > most_steps:
                continue
            found = key(successor[0], successor[2], successor[3])
            if found not in seen:
                seen.add(found)
                frontier.append(successor)
    print(f"{len(seen)} states, {tried} requests")
    # With one life there is nothing to mistake it for, and some words have their requests.
    expected = WORDS - {word for name in but for word in WORDS_OF.get(name, ())}
    if most_lives == 1:
        expected -= {"exists", "restarted", "claimed", "migration"}
    assert words == expected

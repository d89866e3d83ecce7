"""Lives that begin without a look, and end with their window: `Engine.begin`, `end`, `recall`."""

from __future__ import annotations

import numpy as np
import pytest

from server.world import World, in_loop
from tickcell.server import errors
from tickcell.server.caller import ANYBODY
from tickcell.server.life_requests import Creation
from tickcell.server.record import Record
from tickcell.server.rules import StepRequest


def begin(
    world: World, request_id: str, generation: int, reading: float = 1.0
) -> tuple[Record, float]:
    """Begins a life of session "a" with one step; returns its record and the output."""
    wanted = Creation("a", request_id, 1, window=4, idle_ttl_ns=10**9, labels={})
    frame = np.float32(reading).tobytes()
    first = StepRequest(ANYBODY.key("a"), generation, 0, 1, frame)
    record, stepped = in_loop(world.server.engine.begin(world.model, wanted, first))
    return record, float(np.frombuffer(stepped.outputs, "<f4")[0])


def end(world: World, generation: int) -> None:
    in_loop(world.server.engine.end(ANYBODY, "a", generation))


def test_each_life_that_is_replaced_is_counted_once() -> None:
    world = World()
    counts = []
    for request_id, generation in (("one", 1), ("one", 1), ("two", 2), ("two", 2), ("three", 3)):
        begun, output = begin(world, request_id, generation)
        assert (begun.life.generation, output) == (generation, 1.0)
        (model,) = world.server.engine.observer.models
        counts.append((model.created, model.replaced))
    assert counts == [(1, 0), (1, 0), (2, 1), (2, 1), (3, 2)]


def test_life_that_has_ended_is_not_replaced_but_followed() -> None:
    world = World()
    begin(world, "one", 1)
    end(world, 1)
    begin(world, "two", 2)
    world.clock.advance(1.0)
    begun, _ = begin(world, "three", 3)
    assert (begun.life.follows, begun.life.labels) == ("two", {})
    (model,) = world.server.engine.observer.models
    assert (model.created, model.deleted, model.expired, model.replaced) == (3, 1, 1, 0)


@pytest.mark.parametrize("reading", [float("nan"), 501.0])
def test_life_whose_first_step_is_refused_does_not_begin(reading: float) -> None:
    world = World()
    begin(world, "one", 1)
    with pytest.raises((errors.FrameNotFinite, errors.FrameOutOfRange)):
        begin(world, "two", 2, reading)
    assert world.sessions.get("a").life.generation == 1
    assert world.store.change_counts == [1, 1]


def test_life_ends_with_its_window_and_once() -> None:
    world = World()
    begin(world, "one", 1)
    for _ in range(2):
        end(world, 1)
        record = in_loop(world.server.engine.recall(ANYBODY, "a"))
        assert (record.life.is_deleted, record.kept, record.state) == (True, 1, b"")
    with pytest.raises(errors.SessionDeleted):
        world.sessions.get("a")
    begin(world, "two", 2)
    with pytest.raises(errors.SessionRestarted):
        end(world, 1)
    assert world.store.counts() == (1, 0)

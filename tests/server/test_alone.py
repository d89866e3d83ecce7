"""A request alone in its turn gets the answer, and leaves the record, that it has in company."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from server.turns import World
from tickcell.server import records
from tickcell.server.step import Step
from tickcell.server.store import Change

SESSIONS = {"a": 1, "b": 3}

requests = st.tuples(
    st.sampled_from(list(SESSIONS)),
    st.sampled_from([0, 0, 0, -1, -3, -20, 1]),
    st.sampled_from([1, 1, 2, 5, 9]),
    st.sampled_from([1.0, 1.0, 2.0, 1000.0, float("nan")]),
)


def answer(step: Step) -> tuple[object, ...]:
    if step.error is not None:
        return type(step.error), str(step.error)
    return step.start_step, step.outputs


@settings(deadline=None, max_examples=60)
@given(st.lists(requests, max_size=25))
def test_alone_or_together_makes_no_difference(
    sent: list[tuple[str, int, int, float]],
) -> None:
    world = World()
    for session, series_count in SESSIONS.items():
        world.create(session, series_count)
    world.create("companion")
    for at, (session, offset, step_count, reading) in enumerate(sent):
        first_step = max(world.next_step(session) + offset, 0)
        frames = np.full((step_count, SESSIONS[session], 1), reading, np.float32)
        key = records.key(session)
        (before,) = world.store.load([key])
        alone = world.request(session, first_step, frames)
        world.turn.run_alone(alone)
        (after,) = world.store.load([key])
        if after != before:
            # Back to where it was, under the turn's feet.
            world.store.commit([Change(key, after, before)])
        together = world.request(session, first_step, frames)
        world.run(together, world.request("companion", at, [1.0]))
        assert answer(alone) == answer(together)
        assert world.store.load([key]) == [after]


def test_servers_that_take_turns_at_a_session_continue_each_other() -> None:
    world = World()
    world.create("a")
    turns = [world.turn, world.turn_over(world.catalogue)]
    outputs = []
    for step in range(12):
        asked = world.request("a", step, [float(step)])
        turns[step % 5 % 2].run_alone(asked)
        assert asked.error is None
        outputs += np.frombuffer(asked.outputs, "<f4").tolist()
    assert outputs == [step + 1000.0 * step for step in range(12)]


def test_session_of_a_restored_store_goes_on_from_where_that_stands() -> None:
    world = World()
    world.create("a")
    key = records.key("a")
    (backup,) = world.store.load([key])
    for _ in range(2):
        for step in range(3):
            asked = world.request("a", step, [5.0])
            world.turn.run_alone(asked)
            assert np.frombuffer(asked.outputs, "<f4").tolist() == [5.0 + 1000.0 * step]
        (current,) = world.store.load([key])
        world.store.commit([Change(key, current, backup)])

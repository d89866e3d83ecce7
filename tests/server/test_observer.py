"""The observer's counts are those of what happened, each counted once."""

from __future__ import annotations

import asyncio
import threading

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from doubles.in_process_server import served
from doubles.interrupted_store import InterruptedStore
from doubles.moody_cell import MoodyCell
from server.world import World, assert_counted, in_loop
from tickcell.conformance import documented
from tickcell.server import errors, rounds
from tickcell.server.histogram import Histogram
from tickcell.server.observer import ModelCounts, Observer
from tickcell.server.pace import Pace
from tickcell.server.store import Contended, Key, Sizes, StoreAwayError
from tickcell.server.store.contract import Counts

SERIES = {"a": 1, "b": 3}
SYNC_S = 0.05


class SlowlySyncedStore(InterruptedStore):
    """Answers only once a sync is done, which takes as long as it says."""

    syncs = True

    def make_durable(self) -> None:
        threading.Event().wait(SYNC_S)


def observer_of(world: World) -> Observer:
    return world.server.engine.observer


def counts_of(world: World) -> ModelCounts:
    (counts,) = observer_of(world).models
    return counts


class TestSteps:
    @hypothesis.given(
        st.lists(
            st.dictionaries(
                st.sampled_from(sorted(SERIES)),
                # Some that are new, some that are repeated, some that are refused.
                st.tuples(st.integers(-3, 1), st.integers(1, 4)),
                min_size=1,
            ),
            max_size=8,
        )
    )
    @hypothesis.settings(max_examples=50)
    def test_each_is_counted_once_as_applied_or_repeated(
        self, rounds_: list[dict[str, tuple[int, int]]]
    ) -> None:
        world = World()
        for session, series_count in SERIES.items():
            world.create(session, series_count)
        answered, ticks, rows = 0, 0, 0
        for round_ in rounds_:
            asked = []
            for session, (behind, step_count) in round_.items():
                first_step = world.next_step(session) + behind
                frames = np.ones((step_count, SERIES[session], 1), np.float32)
                if first_step >= 0:
                    asked.append(world.request(session, first_step, frames))
            before = {session: world.next_step(session) for session in SERIES}
            world.run(*asked)
            for each in asked:
                if isinstance(each.answer, rounds.Stepped):
                    answered += each.request.step_count
                    ticks += each.request.step_count == 1
            rows += sum((world.next_step(name) - before[name]) * SERIES[name] for name in SERIES)
        counts = counts_of(world)
        assert counts.applied == sum(map(world.next_step, SERIES))
        assert counts.applied + counts.repeated == answered
        assert sum(counts.tick.counts) == ticks
        assert observer_of(world).round_rows.total == rows

    def test_each_is_counted_under_its_model(self) -> None:
        other = served(MoodyCell(), "other", "7")
        world = World(other)
        world.create("a")
        world.create("b", model=other)
        world.run(world.request("a", 0, [1.0, 2.0]), world.request("b", 0, [1.0]))
        applied = {(each.model, each.version): each.applied for each in observer_of(world).models}
        assert applied == {("counting", "1"): 2, ("other", "7"): 1}

    def test_two_models_of_one_name_and_version_share_their_counts(self) -> None:
        observer = Observer()
        counts = observer.counts_of("aa", "counting", "1")
        assert observer.counts_of("bb", "counting", "1") is counts
        assert observer.models == [counts]

    def test_calls_of_a_cell_that_runs_in_a_thread_are_timed_too(self) -> None:
        world = World(pace=Pace(call_s=0.01, row_s=0.0, is_slow=True))
        world.create("a")
        world.run(world.request("a", 0, [1.0, 2.0, 3.0]))
        assert sum(counts_of(world).compute.counts) == 3

    def test_time_of_a_tick_holds_its_wait_for_the_sync(self) -> None:
        world = World(store=SlowlySyncedStore())
        world.create("a")
        world.run(world.request("a", 0, [1.0]))
        assert counts_of(world).tick.total >= SYNC_S * 1e9


class TestLives:
    def test_session_is_counted_once_however_often_its_request_is_sent(self) -> None:
        world = World()
        for _ in range(2):
            world.create("a", request_id="one")
        generation = world.sessions.get("a").life.generation
        for _ in range(2):
            world.sessions.reset("a", generation, "two")
        generation = world.sessions.get("a").life.generation
        world.sessions.touch("a", generation)
        for _ in range(2):
            world.sessions.delete("a", generation)
        counts = counts_of(world)
        assert (counts.created, counts.reset, counts.deleted, counts.expired) == (1, 1, 1, 0)

    def test_refused_or_uncommitted_creation_is_not_counted(self) -> None:
        world = World()
        world.create("a")
        with pytest.raises(errors.SessionExists):
            world.create("a")
        world.store.trouble = StoreAwayError("store: is away.")
        with pytest.raises(errors.StoreAway):
            world.create("b")
        assert counts_of(world).created == 1

    def test_expired_session_is_counted_when_another_takes_its_id(self) -> None:
        other = served(MoodyCell(), "other", "7")
        world = World(other)
        world.create("a", idle_ttl_ns=1)
        world.clock.advance(1.0)
        world.create("a", model=other)
        found = {each.model: (each.created, each.expired) for each in observer_of(world).models}
        assert found == {"counting": (1, 1), "other": (1, 0)}


class TestHeads:
    def test_first_request_misses_and_the_others_hit(self) -> None:
        world = World()
        observer = observer_of(world)
        world.create_all("a", "b")
        assert (observer.head_hits, observer.head_misses) == (0, 2)
        for step in range(3):
            world.run(world.request("a", step, [1.0]), world.request("b", step, [1.0]))
        assert (observer.head_hits, observer.head_misses, observer.heads_lost) == (6, 2, 0)

    def test_head_that_another_server_has_passed_is_lost(self) -> None:
        world = World()
        observer = observer_of(world)
        world.create("a")
        world.other.run(world.request("a", 0, [1.0]))
        # Else both make the same record.
        world.clock.advance(1.0)
        # By the head, this step is new.
        again = world.request("a", 0, [1.0])
        world.run(again)
        assert_counted(again, 0, [1.0])
        assert observer.heads_lost == 1
        assert counts_of(world).repeated == 1

    def test_rounds_are_counted_by_their_requests(self) -> None:
        world = World()
        world.create_all("a", "b", "c")
        before = observer_of(world).round_requests.total
        world.run(*[world.request(session, 0, [1.0]) for session in "abc"])
        requests = observer_of(world).round_requests
        assert requests.total - before == 3
        assert sum(requests.counts) == 4


class TestStore:
    def test_what_fails_is_counted(self) -> None:
        world = World()
        observer = observer_of(world)
        world.create("a")
        world.store.trouble = StoreAwayError("store: is away.")
        world.run(world.request("a", 0, [1.0]))
        assert observer.store_failures == 1
        world.store.trouble = None
        world.store.torn = Key("", "b")
        with pytest.raises(errors.StoreDamaged):
            world.sessions.get("b")
        assert observer.store_failures == 2
        observer.store_was_kept_up(StoreAwayError("store: is away."))
        observer.store_was_kept_up(None)
        assert observer.upkeep_failures == 1

    def test_commit_that_waits_is_counted_and_timed_to_its_end(self) -> None:
        world = World()
        world.create("a")
        commits = sum(observer_of(world).commit.counts)
        world.store.trouble = Contended()

        def unlock() -> None:
            world.store.trouble = None

        world.store.interruptions = [lambda: None, unlock]
        world.run(world.request("a", 0, [1.0]))
        assert observer_of(world).contended == 1
        assert sum(observer_of(world).commit.counts) == commits + 1

    def test_upkeep_notes_how_much_there_is_and_what_has_expired(self) -> None:
        world = World()
        world.create("a")
        world.create("b", idle_ttl_ns=1)
        world.clock.advance(1.0)
        observer = observer_of(world)

        async def keep_up() -> None:
            keeping = asyncio.create_task(world.server.engine.keep_up())
            while observer.sessions != Counts(live=1, ended=1):
                await asyncio.sleep(0.01)
            keeping.cancel()

        in_loop(keep_up())
        assert observer.sizes == Sizes(0, 0)
        counts = counts_of(world)
        assert (counts.created, counts.deleted, counts.expired) == (2, 0, 1)


class TestRefusals:
    def test_there_is_a_count_for_each_reason_of_the_wire_contract(self) -> None:
        assert {*Observer().refused_counts} == {*documented.metadata()} == {*errors.REASONS}

    @pytest.mark.parametrize("reason", errors.REASONS)
    def test_refusal_is_counted_under_its_reason(self, reason: str) -> None:
        observer = Observer()
        observer.refused(errors.REASONS[reason]("refused."))
        assert {name for name, count in observer.refused_counts.items() if count} == {reason}


@hypothesis.given(st.lists(st.integers(0, 2_000)))
def test_histogram_puts_each_value_into_the_first_bucket_that_holds_it(values: list[int]) -> None:
    bounds = (10, 100, 1_000)
    histogram = Histogram(bounds)
    for value in values:
        histogram.note(value)
    assert histogram.total == sum(values)
    for index, bound in enumerate(bounds):
        assert sum(histogram.counts[: index + 1]) == sum(value <= bound for value in values)
    assert sum(histogram.counts) == len(values)

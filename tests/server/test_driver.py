"""The driver: who waits for whom, who is dropped, and what comes of a store in trouble."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.counting_cell import CountingCell, counting_outputs
from doubles.in_process_server import served
from doubles.interrupted_store import InterruptedStore
from server.world import Asked, World, assert_counted, in_loop
from tickcell.server import errors, rounds
from tickcell.server.observer import Observer
from tickcell.server.pace import Pace
from tickcell.server.store import (
    Change,
    Contended,
    Key,
    StoreAwayError,
    StoreDamagedError,
    Unknown,
    Verdict,
)

BULK_ROWS = 8192


async def answer(world: World, asked: Asked) -> Asked:
    """Awaits the answer to a request."""
    try:
        asked.answer = await world.server.engine.step(asked.request)
    except errors.TickcellError as error:
        asked.answer = error
    return asked


def bulk(world: World, session: str, first_step: int = 0) -> Asked:
    """Returns a request of as many rows as one may have."""
    frames = np.ones((BULK_ROWS // 256, 256, 1), np.float32)
    return world.request(session, first_step, frames)


ROW_S = 20e-6
# As it is measured where nothing else runs.
HEAVY = Pace(ROW_S, ROW_S, is_slow=False)


class HeavyCell(CountingCell):
    """Counts, and takes its time for each row."""

    def step_rows(self, rows: bytes | memoryview) -> bytes:
        time.sleep(ROW_S * len(rows) / (8 * self.interface.sensor_count))
        return super().step_rows(rows)


class TestFairness:
    def test_tick_overtakes_bulk_requests_that_came_before_it(self) -> None:
        world = World(cell=HeavyCell(), pace=HEAVY)
        world.create("tick")
        bulks = []
        for index in range(4):
            world.create(f"bulk{index}", 256, window=32)
            bulks.append(bulk(world, f"bulk{index}"))
        ticks = [world.request("tick", step, [1.0]) for step in range(4)]
        order: list[str] = []

        async def noted(name: str, asked: Asked) -> None:
            await answer(world, asked)
            order.append(name)

        async def run() -> None:
            running = [asyncio.create_task(noted("bulk", each)) for each in bulks]
            await asyncio.sleep(0)
            for tick in ticks:
                await noted("tick", tick)
            await asyncio.gather(*running)

        in_loop(run())
        for step, tick in enumerate(ticks):
            assert_counted(tick, step, [1.0])
        for each in bulks:
            assert_counted(each, 0, np.ones((BULK_ROWS // 256, 256, 1), np.float32))
        # Between two slices of what takes long, one short round: no tick waits for a whole
        # request, and of those there were four before it.
        assert order == ["tick"] * 4 + ["bulk"] * 4

    def test_cell_that_is_slow_holds_up_nobody_else(self) -> None:
        class SlowCell(CountingCell):
            may_end = threading.Event()

            def step_rows(self, rows: bytes | memoryview) -> bytes:
                time.sleep(0.003)
                self.may_end.wait(60.0)
                return super().step_rows(rows)

        SlowCell.may_end.set()
        slow = served(SlowCell(), "slow")
        SlowCell.may_end.clear()
        world = World(slow)
        world.create("quick")
        world.create("slow", model=slow)
        slow_step, tick = world.request("slow", 0, [1.0]), world.request("quick", 0, [2.0])

        async def run() -> None:
            running = asyncio.create_task(answer(world, slow_step))
            await asyncio.sleep(0)
            await answer(world, tick)
            assert not running.done()
            SlowCell.may_end.set()
            await running

        in_loop(run())
        assert_counted(tick, 0, [2.0])
        assert_counted(slow_step, 0, [1.0])

    def test_list_of_many_sessions_lets_ticks_pass(self) -> None:
        world = World()
        for index in range(200):
            world.create(f"s{index:03}")
        world.create("tick")
        tick = world.request("tick", 0, [1.0])

        async def run() -> None:
            listing = asyncio.create_task(world.server.engine.list_live("", None, 1000, len))
            await asyncio.sleep(0)
            await answer(world, tick)
            assert not listing.done()
            pieces, last = await listing
            assert (sum(pieces), last) == (201, None)

        in_loop(run())
        assert_counted(tick, 0, [1.0])

    def test_lone_request_of_many_small_steps_is_cut_into_slices(self) -> None:
        world = World(cell=HeavyCell(), pace=HEAVY)
        world.create("bulk", window=250)
        world.create("tick")
        for step in range(20):
            world.run(world.request("tick", step, [1.0]))
        many = world.request("bulk", 0, [1.0] * 250)
        tick = world.request("tick", 20, [1.0])
        order: list[str] = []

        async def noted(name: str, asked: Asked) -> None:
            await answer(world, asked)
            order.append(name)

        async def run() -> None:
            running = asyncio.create_task(noted("bulk", many))
            await asyncio.sleep(0)
            await asyncio.gather(running, noted("tick", tick))

        in_loop(run())
        assert order == ["tick", "bulk"]
        assert_counted(many, 0, [1.0] * 250)


class TestGathering:
    """Requests of different sessions that arrive one after the other, each in a turn of its own."""

    def arriving(self, count: int) -> tuple[World, list[Asked]]:
        world = World()
        sessions = [f"session{index}" for index in range(count)]
        world.create_all("one", "other", *sessions)
        # Two at once: after many that came alone, the next one would not wait.
        world.run(world.request("one", 0, [1.0]), world.request("other", 0, [1.0]))
        world.store.change_counts.clear()
        return world, [world.request(session, 0, [1.0]) for session in sessions]

    async def run(self, world: World, asked: Sequence[Asked]) -> None:
        running = []
        for each in asked:
            running.append(asyncio.create_task(answer(world, each)))
            await asyncio.sleep(0)
        await asyncio.gather(*running)
        for each in asked:
            assert_counted(each, 0, [1.0])

    def test_those_of_successive_turns_share_a_commit(self) -> None:
        world, asked = self.arriving(5)
        in_loop(self.run(world, asked))
        assert world.store.change_counts == [5]

    def test_one_that_comes_after_many_that_came_alone_does_not_wait(self) -> None:
        world, (first, *others) = self.arriving(10)
        for each in others:
            world.run(each)

        async def enter() -> None:
            entry = world.server.engine.step(first.request)
            # Before the loop has had another turn.
            assert world.store.change_counts == [1] * 10
            first.answer = await entry

        in_loop(enter())
        assert_counted(first, 0, [1.0])

    def test_none_waits_for_all_that_keep_arriving(self) -> None:
        world, asked = self.arriving(40)
        in_loop(self.run(world, asked))
        assert sum(world.store.change_counts) == 40
        # Eight turns, and those in which the first arrived and the last was let in.
        assert 1 < max(world.store.change_counts) <= 10


class TestCallersThatLeave:
    def test_request_whose_caller_left_before_its_round_is_dropped(self) -> None:
        world = World()
        world.create("a")
        first, left = world.request("a", 0, [1.0]), world.request("a", 1, [2.0])

        async def run() -> None:
            leaving = asyncio.create_task(answer(world, left))
            await asyncio.sleep(0)
            leaving.cancel()
            await answer(world, first)

        in_loop(run())
        assert world.next_step("a") == 1

    def test_request_whose_caller_leaves_amid_its_round_is_applied(self) -> None:
        world = World()
        world.create("a")
        left = world.request("a", 0, [1.0])

        async def run() -> None:
            leaving = asyncio.create_task(answer(world, left))
            world.store.interruptions.append(leaving.cancel)
            with pytest.raises(asyncio.CancelledError):
                await leaving

        in_loop(run())
        assert world.next_step("a") == 1
        again = world.request("a", 0, [1.0])
        world.run(again)
        assert_counted(again, 0, [1.0])

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), max_size=40))
    def test_callers_that_leave_at_any_moment_lose_and_double_nothing(
        self, plan: Sequence[tuple[str, int]]
    ) -> None:
        world = World()
        world.create_all(*"abc")
        next_steps = dict.fromkeys("abc", 0)
        generations = {session: world.sessions.get(session).life.generation for session in "abc"}

        async def leave_after(turns: int, asked: Asked) -> bool:
            running = asyncio.create_task(answer(world, asked))
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            try:
                await running
            except asyncio.CancelledError:
                return False
            return True

        for session, turns in plan:
            step = next_steps[session]
            reading = float(step)
            while True:
                asked = world.request(session, step, [reading])
                assert asked.request.generation == generations[session]
                if in_loop(leave_after(turns, asked)):
                    break
                turns += 1
            assert_counted(asked, step, [reading])
            next_steps[session] += 1
            assert world.next_step(session) == next_steps[session]


class TestStoreInTrouble:
    def contended_for(self, world: World, commits: int) -> None:
        """Has another process hold the store's lock for some commits."""

        def release() -> None:
            world.store.trouble = None

        world.store.trouble = Contended()
        world.store.interruptions += [lambda: None] * (commits - 1) + [release]

    def test_locked_store_is_waited_for(self) -> None:
        world = World()
        world.create_all("a", "b")
        asked = [world.request("a", 0, [1.0]), world.request("b", 0, [2.0])]
        self.contended_for(world, 4)
        world.run(*asked)
        assert_counted(asked[0], 0, [1.0])
        assert_counted(asked[1], 0, [2.0])

    def test_stored_answers_and_looks_go_on_while_the_store_is_locked(self) -> None:
        world = World()
        world.create_all("a", "b")
        world.run(world.request("a", 0, [1.0]))
        stored, new = world.request("a", 0, [1.0]), world.request("b", 0, [2.0])

        async def run() -> None:
            world.store.trouble = Contended()
            waiting = asyncio.create_task(answer(world, new))
            await answer(world, stored)
            await world.server.engine.get(world.caller, "a")
            assert not waiting.done()
            world.store.trouble = None
            await waiting

        in_loop(run())
        assert_counted(stored, 0, [1.0])
        assert_counted(new, 0, [2.0])

    def test_lock_that_is_short_refuses_nobody_whoever_shares_the_round(self) -> None:
        world = World()
        world.create_all("remembered", "loaded")
        world.server.sessions.get("remembered")
        world.store.commit([Change(Key("", "other"), None, b"another writer's", was_live=False)])
        server = world.server_of(world.catalogue)
        server.sessions.get("remembered")
        asked = [world.request("remembered", 0, [1.0]), world.request("loaded", 0, [2.0])]
        self.contended_for(world, 3)
        server.run(*asked)
        assert_counted(asked[0], 0, [1.0])
        assert_counted(asked[1], 0, [2.0])

    def test_store_that_stays_locked_is_busy_and_nothing_was_applied(self) -> None:
        world = World()
        world.create("a")
        asked = world.request("a", 0, [1.0])
        world.store.trouble = Contended()
        world.run(asked)
        assert isinstance(asked.error, errors.StoreBusy)
        world.store.trouble = None
        assert world.next_step("a") == 0
        world.run(asked)
        assert_counted(asked, 0, [1.0])

    @pytest.mark.parametrize(
        ("trouble", "reason"),
        [
            (StoreAwayError("store: is away."), errors.StoreAway),
            (StoreDamagedError("store: is torn."), errors.StoreDamaged),
            (Unknown("the disk failed"), errors.OutcomeUnknown),
        ],
    )
    def test_trouble_has_its_reason_and_passes(
        self, trouble: Verdict | Exception, reason: type[errors.TickcellError]
    ) -> None:
        world = World()
        world.create_all("a", "b")
        asked = [world.request("a", 0, [1.0]), world.request("b", 0, [2.0])]
        world.store.trouble = trouble
        world.run(*asked)
        assert [type(each.error) for each in asked] == [reason, reason]
        world.store.trouble = None
        world.run(*asked)
        assert_counted(asked[0], 0, [1.0])
        assert_counted(asked[1], 0, [2.0])

    def test_fault_behind_a_commit_is_unknown_and_never_run_again(self) -> None:
        world = World()
        world.create("a")
        asked = Asked(world.request("a", 0, [1.0]).request._replace(first_step=None))
        world.store.fails_behind = True
        world.run(asked)
        world.store.fails_behind = False
        assert isinstance(asked.error, errors.OutcomeUnknown)
        assert world.next_step("a") == 1

    def test_records_that_cannot_be_loaded_together_are_loaded_singly(self) -> None:
        world = World()
        world.create_all("a", "b", "c")
        asked = [world.request(session, 0, [1.0]) for session in "abc"]
        server = world.server_of(world.catalogue)
        world.store.torn = Key("", "b")
        server.run(*asked)
        assert_counted(asked[0], 0, [1.0])
        assert isinstance(asked[1].error, errors.StoreDamaged)
        assert_counted(asked[2], 0, [1.0])


class TestFaultsOfOurs:
    def test_observer_that_fails_harms_no_answer_and_hears_of_the_rest(self) -> None:
        class Failing(Observer):
            def committed(self, taken_ns: int) -> None:
                raise ArithmeticError("a fault of ours")

        world, observer = World(), Failing()
        world.create_all("a", "b")
        server = world.server_of(world.catalogue, observer=observer)
        for step in range(3):
            asked = [world.request("a", step, [1.0]), world.request("b", step, [2.0])]
            server.run(*asked)
            assert_counted(asked[0], step, [1.0])
            assert_counted(asked[1], step, [2.0])
        assert sum(counts.applied for counts in observer.models) == 6


class SyncedStore(InterruptedStore):
    """A store whose answers wait for a sync, which a test lets end."""

    syncs = True

    def __init__(self) -> None:
        super().__init__()
        self.synced = threading.Event()
        self.committed: list[Key] = []
        self.durable: set[Key] = set()
        self.failure: Exception | None = None

    def commit(self, changes: Sequence[Change]) -> list[Verdict]:
        self.committed += [change.key for change in changes]
        return super().commit(changes)

    def make_durable(self) -> None:
        durable = set(self.committed)
        assert self.synced.wait(60.0)
        if self.failure is not None:
            raise self.failure
        self.durable |= durable


class TestDurableAnswers:
    @pytest.fixture
    def world(self) -> World:
        return World(store=SyncedStore())

    def store(self, world: World) -> Any:
        return world.store

    def until_synced(self, world: World, work: Callable[[], Any]) -> Any:
        """Runs what waits for a sync; checks that it does."""

        async def run() -> Any:
            self.store(world).synced.clear()
            running = asyncio.ensure_future(work())
            for _ in range(50):
                await asyncio.sleep(0)
            assert not running.done()
            self.store(world).synced.set()
            return await running

        return in_loop(run())

    def test_no_answer_goes_out_before_it_is_durable(self, world: World) -> None:
        self.store(world).synced.set()
        world.create("a")
        asked = world.request("a", 0, [1.0])
        self.until_synced(world, lambda: answer(world, asked))
        assert_counted(asked, 0, [1.0])
        again = world.request("a", 0, [1.0])
        # What was read may be another server's latest commit.
        self.until_synced(world, lambda: answer(world, again))
        assert_counted(again, 0, [1.0])
        engine = world.server.engine
        self.until_synced(world, lambda: engine.get(world.caller, "a"))
        self.until_synced(world, lambda: engine.list_live("", None, 10, len))

    def test_failed_sync_is_unknown_and_what_it_knew_is_forgotten(self, world: World) -> None:
        store = self.store(world)
        store.synced.set()
        world.create("a")
        asked = world.request("a", 0, [1.0])
        store.failure = StoreAwayError("store: cannot be synced.")
        world.run(asked)
        assert isinstance(asked.error, errors.OutcomeUnknown)
        store.failure = None
        loads = store.load_count
        world.run(asked)
        assert_counted(asked, 0, [1.0])
        assert store.load_count == loads + 1

    def test_failed_sync_says_of_a_look_that_nothing_was_applied(self, world: World) -> None:
        store = self.store(world)
        store.synced.set()
        world.create("a")
        store.failure = StoreAwayError("store: cannot be synced.")
        for session in ("a", "nobody"):
            with pytest.raises(errors.StoreAway):
                world.sessions.get(session)

    def test_one_sync_serves_all_who_wait(self, world: World) -> None:
        store = self.store(world)
        store.synced.set()
        sessions = [f"s{index}" for index in range(20)]
        world.create_all(*sessions)
        asked = [world.request(session, 0, [1.0]) for session in sessions]
        world.run(*asked)
        for each in asked:
            assert_counted(each, 0, [1.0])
        assert store.durable == {Key("", session) for session in sessions}


def test_step_of_any_size_is_answered_as_the_plain_loop_would() -> None:
    world = World()
    chance = np.random.default_rng(3)
    shapes = {"a": (32, 1), "b": (32, 256), "c": (500, 16), "d": (1, 1), "e": (1, 200)}
    asked, sent = [], []
    for session, (steps, series) in shapes.items():
        world.create(session, series, window=steps)
        frames = chance.integers(0, 300, (steps, series, 1)).astype(np.float32)
        asked.append(world.request(session, 0, frames))
        sent.append(frames)
    world.run(*asked)
    for each, frames in zip(asked, sent, strict=True):
        assert isinstance(each.answer, rounds.Stepped), each.answer
        expected = counting_outputs(frames, 0).astype("<f4").tobytes()
        assert each.answer.outputs == expected

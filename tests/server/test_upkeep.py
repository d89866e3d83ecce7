"""Upkeep goes on whatever it meets, and health says whether commits are possible."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from doubles.manual_clock import ManualClock
from server.world import World, in_loop
from tickcell.server.config import Config
from tickcell.server.driver import Driver
from tickcell.server.heads import Head, Heads
from tickcell.server.health import Health
from tickcell.server.health_servicer import HealthServicer
from tickcell.server.in_slices import InSlices
from tickcell.server.observer import Observer
from tickcell.server.policy import Policy
from tickcell.server.store import (
    Key,
    MemoryStore,
    StoreAwayError,
    StoreDamagedError,
    StorePinnedError,
    StorePutBackError,
)
from tickcell.server.sweep import Sweep
from tickcell.server.upkeep import Upkeep


class TroubledStore(MemoryStore):
    """Fails at its upkeep as it is told to, one time after the other.

    Attributes:
      success_count: how many times it was kept up.
    """

    def __init__(self, *troubles: Exception | None) -> None:
        super().__init__()
        self.troubles = list(troubles)
        self.success_count = 0

    def upkeep(self) -> None:
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is not None:
            raise trouble
        super().upkeep()
        self.success_count += 1


def keep_up(
    store: TroubledStore,
    heads: Heads | None = None,
    health: Health | None = None,
    sweep_of: Callable[..., Sweep] = Sweep,
) -> Health:
    """Keeps a store up until it has met all its troubles and got over them."""
    health = health or Health()

    async def run() -> None:
        policy = Policy.of(Config(durability="none"), World().catalogue)
        kept = heads or Heads()
        observer = Observer(health)
        driver = Driver(store, kept, policy, observer, lambda: 0)
        awaited = InSlices(store, driver.in_slice)
        upkeep = Upkeep(awaited, kept, sweep_of(awaited, driver, policy), observer)
        running = asyncio.create_task(upkeep.run(0.001))
        # One time more than it takes: what came of the one before is known by then.
        while store.troubles or store.success_count < 3:
            await asyncio.sleep(0.001)
        running.cancel()
        awaited.release()
        driver.close()

    in_loop(run())
    return health


@pytest.mark.parametrize(
    "trouble",
    [StoreAwayError("store: away."), ArithmeticError("a fault of ours"), MemoryError(), OSError(5)],
)
def test_upkeep_goes_on_after(trouble: Exception, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    store = TroubledStore(None, trouble, trouble, trouble, None)
    health = keep_up(store)
    assert store.troubles == []
    said = [record for record in caplog.records if record.levelname == "ERROR"]
    # What fails again in the same words is logged once.
    assert len(said) == 1
    assert type(trouble).__name__ in said[0].message
    assert "works again" in caplog.text
    health.judge()
    assert health.is_serving


def test_heads_are_forgotten_where_the_store_was_put_back() -> None:
    world = World()
    heads = Heads()
    heads.put(Key("", "a"), Head(b"bytes", world.create("a")))
    keep_up(TroubledStore(StorePutBackError("store: was put back."), None), heads)
    assert heads.get(Key("", "a")) is None


def test_sweep_begins_anew_where_the_store_was_put_back() -> None:
    class NotedSweep(Sweep):
        start_count = 0

        def start_over(self) -> None:
            self.start_count += 1
            super().start_over()

    store = TroubledStore(StorePutBackError("store: was put back."), None)
    sweeps: list[NotedSweep] = []

    def noted(*parts: Any) -> Sweep:
        sweeps.append(NotedSweep(*parts))
        return sweeps[0]

    keep_up(store, sweep_of=noted)
    # Once when it was made.
    assert sweeps[0].start_count == 2


@pytest.mark.parametrize(
    ("trouble", "heard"),
    [
        (None, None),
        (StorePinnedError("store: pinned by 7."), StorePinnedError),
        (ArithmeticError("a fault of ours"), ArithmeticError),
        # It has taken a commit.
        (StorePutBackError("store: was put back."), None),
    ],
)
def test_health_hears_what_came_of_each_upkeep(
    trouble: Exception | None, heard: type[Exception] | None
) -> None:
    class Noted(Health):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[tuple[int, Exception | None]] = []

        def store_was_kept_up(self, error: Exception | None) -> None:
            self.heard.append((len(store.troubles), error))
            super().store_was_kept_up(error)

    health = Noted()
    store = TroubledStore(trouble, None)
    keep_up(store, health=health)
    (left, first), second = health.heard[:2]
    # It is of the first upkeep.
    assert left == 1
    assert first is None if heard is None else isinstance(first, heard)
    assert second == (0, None)


def test_sweep_of_very_many_does_not_keep_the_clock_waiting() -> None:
    store = TroubledStore()

    async def run() -> int:
        health = Health()
        policy = Policy.of(Config(durability="none"), World().catalogue)
        driver = Driver(store, Heads(), policy, Observer(health), lambda: 0)

        class EndlessSweep(Sweep):
            async def run(self) -> int:
                await asyncio.sleep(3600.0)
                return 0

        awaited = InSlices(store, driver.in_slice)
        upkeep = Upkeep(awaited, Heads(), EndlessSweep(awaited, driver, policy), Observer(health))
        running = asyncio.create_task(upkeep.run(0.001))
        while store.success_count < 5:
            await asyncio.sleep(0.001)
        running.cancel()
        awaited.release()
        driver.close()
        return store.success_count

    assert in_loop(run()) >= 5


class TestHealth:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def health(self, clock: ManualClock) -> Health:
        return Health(lambda: clock.now_ns() / 10**9)

    def judged(self, health: Health, clock: ManualClock, seconds: float) -> bool:
        """Judges each half second for some time; returns the last judgement."""
        for _ in range(round(2 * seconds)):
            clock.advance(0.5)
            health.judge()
        return health.is_serving

    def test_it_turns_after_three_seconds_without_a_possible_commit(
        self, health: Health, clock: ManualClock
    ) -> None:
        health.commit_was_possible()
        assert self.judged(health, clock, 2.5)
        assert not self.judged(health, clock, 0.5)

    def test_it_turns_back_at_the_first_commit(self, health: Health, clock: ManualClock) -> None:
        assert not self.judged(health, clock, 10.0)
        health.commit_was_possible()
        health.judge()
        assert health.is_serving

    def test_pause_of_the_process_is_no_news_of_the_store(
        self, health: Health, clock: ManualClock
    ) -> None:
        clock.advance(3600.0)
        health.judge()
        assert health.is_serving
        assert not self.judged(health, clock, 3.0)

    def test_damage_is_for_good(self, health: Health, clock: ManualClock) -> None:
        health.store_failed(StoreDamagedError("store: is torn."))
        health.judge()
        assert not health.is_serving
        health.commit_was_possible()
        assert not self.judged(health, clock, 1.0)

    def test_log_that_is_pinned_is_not_healthy_while_it_lasts(
        self, health: Health, clock: ManualClock
    ) -> None:
        health.store_was_kept_up(StorePinnedError("store: pinned by 7."))
        health.judge()
        assert not health.is_serving
        health.store_was_kept_up(None)
        health.judge()
        assert health.is_serving

    def test_change_that_comes_while_an_answer_is_written_is_not_missed(
        self, health: Health
    ) -> None:
        class Context:
            """Writes, and meanwhile the server begins to drain."""

            def __init__(self) -> None:
                self.written: list[bytes] = []

            async def write(self, encoded: bytes) -> None:
                self.written.append(encoded)
                if len(self.written) == 1:
                    health.drain()

        context: Any = Context()
        gate: Any = None
        watch: Any = HealthServicer(gate, health, ()).methods()["Watch"].unary_stream
        in_loop(watch(b"", context))
        assert context.written == [
            health_pb2.HealthCheckResponse(status=status).SerializeToString()
            for status in ("SERVING", "NOT_SERVING")
        ]

    def test_who_waits_hears_of_each_change(self, health: Health) -> None:
        async def run() -> list[bool]:
            heard = []
            for error in (StorePinnedError("store: pinned by 7."), None):
                waiting = asyncio.create_task(health.changed.wait())
                await asyncio.sleep(0)
                health.store_was_kept_up(error)
                health.judge()
                await waiting
                heard.append(health.is_serving)
            waiting = asyncio.create_task(health.changed.wait())
            await asyncio.sleep(0)
            health.drain()
            await waiting
            return [*heard, health.is_serving, health.is_draining]

        assert in_loop(run()) == [False, True, False, True]

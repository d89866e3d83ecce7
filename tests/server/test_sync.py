"""An answer waits for a sync that began after it was asked for, and hears what came of that."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from server.world import in_loop
from tickcell.server.store import MemoryStore, StoreAwayError
from tickcell.server.sync import Sync

# Longer than anything here takes.
_PATIENCE_S = 60.0


class SlowDisk(MemoryStore):
    """A store of which each sync ends when it is let, and as it is told.

    Attributes:
      sync_count: how many syncs have begun.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sync_count = 0
        self._began = threading.Semaphore(0)
        self._ends = threading.Semaphore(0)
        self._outcome: Exception | None = None

    def make_durable(self) -> None:
        self.sync_count += 1
        self._began.release()
        assert self._ends.acquire(timeout=_PATIENCE_S)
        if self._outcome is not None:
            raise self._outcome

    async def wait_until_begun(self) -> None:
        """Waits for the next sync to begin."""
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, self._began.acquire, True, _PATIENCE_S)

    def end(self, outcome: Exception | None = None) -> None:
        """Lets the sync that has begun end."""
        self._outcome = outcome
        self._ends.release()

    def end_all(self) -> None:
        """Lets all syncs end from now on."""
        self._ends.release(100)


class Waiting:
    """Those who wait for a sync, each with what it heard."""

    def __init__(self, disk: SlowDisk) -> None:
        self._sync = Sync(disk)

    def ask(self) -> asyncio.Future[Exception | None]:
        heard: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._sync.then(heard.set_result)
        return heard

    def close(self) -> None:
        self._sync.close()


@pytest.fixture
def disk() -> SlowDisk:
    return SlowDisk()


def run(disk: SlowDisk, work: Callable[[Waiting], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        waiting = Waiting(disk)
        try:
            await work(waiting)
        finally:
            disk.end_all()
            waiting.close()

    in_loop(all_of_it())


def test_who_comes_during_a_sync_waits_for_the_next(disk: SlowDisk) -> None:
    async def work(waiting: Waiting) -> None:
        first = waiting.ask()
        await disk.wait_until_begun()
        second = waiting.ask()
        disk.end()
        assert await first is None
        await disk.wait_until_begun()
        assert not second.done()
        disk.end()
        assert await second is None

    run(disk, work)


def test_nobody_is_answered_before_the_sync_has_ended(disk: SlowDisk) -> None:
    async def work(waiting: Waiting) -> None:
        asked = waiting.ask()
        await disk.wait_until_begun()
        await asyncio.sleep(0)
        assert not asked.done()
        disk.end()
        assert await asked is None

    run(disk, work)


def test_all_who_come_during_a_sync_share_the_next(disk: SlowDisk) -> None:
    async def work(waiting: Waiting) -> None:
        first = waiting.ask()
        await disk.wait_until_begun()
        others = [waiting.ask() for _ in range(3)]
        disk.end()
        await first
        disk.end()
        assert await asyncio.gather(*others) == [None] * 3
        assert disk.sync_count == 2

    run(disk, work)


def test_failure_is_heard_by_those_of_that_sync_alone(disk: SlowDisk) -> None:
    failure = StoreAwayError("store: cannot be synced.")

    async def work(waiting: Waiting) -> None:
        first = waiting.ask()
        await disk.wait_until_begun()
        second = waiting.ask()
        disk.end(failure)
        assert await first is failure
        await disk.wait_until_begun()
        disk.end()
        assert await second is None

    run(disk, work)

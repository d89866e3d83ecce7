"""A store of this machine as it is awaited: in slices of the event loop, its upkeep in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent import futures
from typing import TYPE_CHECKING, Any

from tickcell.server.store.contract import AwaitedStore

if TYPE_CHECKING:
    from tickcell.server.store import Counts, EmbeddedStore, Key, Pin, Served, Sizes

    InSlice = Callable[[Callable[[], Any]], Awaitable[Any]]


class InSlices(AwaitedStore):
    """Reads an embedded store when it is a slice's turn; see `driver`."""

    def __init__(self, store: EmbeddedStore, in_slice: InSlice) -> None:
        self._store = store
        self._in_slice = in_slice
        # A thread of its own: a slow disk must hold up nothing else.
        self._thread = futures.ThreadPoolExecutor(1, "upkeep")

    @property
    def id(self) -> str:
        return self._store.id

    def now_ns(self) -> int:
        return self._store.now_ns()

    async def scan(
        self, owner: str | None, after: Key | None, limit: int
    ) -> list[tuple[Key, bytes]]:
        found: list[tuple[Key, bytes]] = await self._in_slice(
            lambda: self._store.scan(owner, after, limit)
        )
        return found

    async def counts(self, owner: str | None = None) -> Counts:
        counts: Counts = await self._in_slice(lambda: self._store.counts(owner))
        return counts

    async def pinned(self) -> dict[Pin, int]:
        pinned: dict[Pin, int] = await self._in_slice(self._store.pinned)
        return pinned

    def announce(self, served: Served) -> None:
        self._store.announce(served)

    def peers(self) -> list[Served]:
        return self._store.peers()

    async def sizes(self) -> Sizes:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._store.sizes)

    async def upkeep(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.upkeep)

    def release(self) -> None:
        self._thread.shutdown()

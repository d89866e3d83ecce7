"""Upkeep: what is due each second, whatever the last time met."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tickcell.server.store.errors import StoreAwayError, StorePutBackError

if TYPE_CHECKING:
    from tickcell.server.heads import Heads
    from tickcell.server.observer import Observer
    from tickcell.server.store.contract import AwaitedStore
    from tickcell.server.sweep import Sweep

_PERIOD_S = 1.0

_log = logging.getLogger(__name__)


class Upkeep:
    """Keeps the store up, and sweeps it."""

    def __init__(
        self,
        store: AwaitedStore,
        heads: Heads,
        sweep: Sweep,
        observer: Observer,
        **others: Callable[[], Awaitable[None]],
    ) -> None:
        """Prepares it.

        Args:
          store: to be kept up.
          heads: to be forgotten where the store was put back.
          sweep: of the store.
          observer: hears what came of the store's upkeep.
          **others: what else is due each second, by its name in the log.
        """
        self._store = store
        self._heads = heads
        self._sweep = sweep
        self._observer = observer
        self._others = others
        self._said = dict[str, str]()

    async def run(self, period_s: float = _PERIOD_S) -> None:
        """Does it over and over, until it is cancelled."""
        # Each at its own pace: a sweep of very many must not keep the store's clock waiting.
        await asyncio.gather(
            self._repeat("store", self._keep_store_up, period_s),
            self._repeat("sweep", self._sweep_store, period_s),
            *(self._repeat(what, work, period_s) for what, work in self._others.items()),
        )

    async def _keep_store_up(self) -> None:
        try:
            await self._store.upkeep()
        except StorePutBackError:
            # What is remembered is of another time.
            self._heads.clear()
            self._sweep.start_over()
            self._observer.store_was_kept_up(None)
            raise
        except Exception as error:
            self._observer.store_was_kept_up(error)
            raise
        self._observer.store_was_kept_up(None)
        self._observer.store_holds(await self._store.counts(), await self._store.sizes())

    async def _sweep_store(self) -> None:
        removed = await self._sweep.run()
        if removed:
            _log.info("removed %d ended sessions", removed)

    async def _repeat(
        self, what: str, work: Callable[[], Awaitable[None]], period_s: float
    ) -> None:
        while True:
            await asyncio.sleep(period_s)
            await self._do(what, work)

    async def _do(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Does a part; what fails again and again in the same words is logged once."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - the edge: logged, and on it goes.
            said = f"{type(error).__name__}: {error}"
            if self._said.get(what) != said:
                # Where the store is away, there is nothing to find in the code.
                trace = None if isinstance(error, StoreAwayError) else error
                _log.error("upkeep (%s): %s", what, said, exc_info=trace)
            self._said[what] = said
        else:
            if self._said.pop(what, None) is not None:
                _log.info("upkeep (%s): works again", what)

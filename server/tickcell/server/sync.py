"""Answers that wait until what they show is as durable as promised."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent import futures
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tickcell.server.store import EmbeddedStore

    Done = Callable[[Exception | None], None]


class Sync:
    """Makes the store durable in a thread, for all who wait by then at once."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self._thread = futures.ThreadPoolExecutor(1, "sync")
        self._waiting: list[Done] = []
        self._is_running = False

    def then(self, done: Done) -> None:
        """Calls `done` once all that is committed by now is durable, or with why it is not."""
        self._waiting.append(done)
        if not self._is_running:
            self._begin()

    def close(self) -> None:
        """Waits for the thread to end."""
        self._thread.shutdown()

    def _begin(self) -> None:
        self._is_running = True
        waiting, self._waiting = self._waiting, []
        synced = asyncio.get_running_loop().run_in_executor(self._thread, self._store.make_durable)
        synced.add_done_callback(functools.partial(self._end, waiting))

    def _end(self, waiting: list[Done], synced: asyncio.Future[None]) -> None:
        self._is_running = False
        error = synced.exception()
        if error is not None and not isinstance(error, Exception):
            error = RuntimeError(repr(error))
        for done in waiting:
            done(error)
        if self._waiting and not self._is_running:
            self._begin()

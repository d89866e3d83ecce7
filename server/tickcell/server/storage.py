"""What rounds need of the store: met at once by one of this machine, awaited over a network."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tickcell.server.contention import Contention
from tickcell.server.rounds import Commit, Load
from tickcell.server.store.contract import Contended
from tickcell.server.store.errors import StoreError
from tickcell.server.sync import Sync

if TYPE_CHECKING:
    from tickcell.server.observer import Observer
    from tickcell.server.room import Count
    from tickcell.server.store import Change, EmbeddedStore, NetworkStore, Verdict

    # Goes on with a job, by what came of its need: a value, or an exception.
    Resume = Callable[[Any, Any], None]

# What a job needs comes later, and then moves it.
LATER = object()


class Storage(Protocol):
    """Meets the needs of rounds.

    Attributes:
      sync: makes what was committed or read durable before it is answered; None where it
        is so by itself.
    """

    sync: Sync | None

    def meet(self, job: Any, need: Load | Count | Commit) -> Any:
        """Returns what came of a need, or `LATER` and resumes the job then; what fails raises."""
        ...

    def close(self) -> None:
        """Waits for the threads to end."""
        ...


class EmbeddedStorage:
    """Asks a store of this machine, which answers at once; see `Storage`."""

    def __init__(
        self,
        store: EmbeddedStore,
        observer: Observer,
        untold: list[tuple[Any, ...]],
        resume: Resume,
    ) -> None:
        """Begins.

        Args:
          store: is asked.
          observer: hears of it.
          untold: takes what the observer need not hear before the answer.
          resume: goes on with a job that had to wait.
        """
        self.sync: Sync | None = Sync(store) if store.syncs else None
        self._store = store
        self._observer = observer
        self._untold = untold
        self._resume = resume
        self._contention = Contention(self._commit)

    def meet(self, job: Any, need: Load | Count | Commit) -> Any:
        if isinstance(need, Commit):
            start_ns = time.perf_counter_ns()
            verdicts = self._commit(need.changes)
            if _is_any_open(verdicts):
                settle = functools.partial(self._settle, job, start_ns)
                self._contention.wait(need.changes, verdicts, settle)
                self._observer.commit_waits()
                return LATER
            taken_ns = time.perf_counter_ns() - start_ns
            self._untold.append((self._observer.committed, taken_ns))
            return verdicts
        try:
            if isinstance(need, Load):
                start_ns = time.perf_counter_ns()
                loaded = self._store.load(need.keys)
                self._observer.loaded(len(need.keys), time.perf_counter_ns() - start_ns)
                return loaded
            return self._store.counts(need.owner)
        except StoreError as error:
            self._observer.store_failed(error)
            raise

    def close(self) -> None:
        if self.sync is not None:
            self.sync.close()

    def _commit(self, changes: Sequence[Change]) -> list[Verdict]:
        try:
            return self._store.commit(changes)
        except Exception as error:
            self._observer.store_failed(error)
            raise

    def _settle(self, job: Any, start_ns: int, verdicts: Sequence[Verdict | StoreError]) -> None:
        """Goes on with a round whose commit had to wait."""
        if not _is_any_open(verdicts):
            self._observer.committed(time.perf_counter_ns() - start_ns)
        self._resume(job, verdicts)


class NetworkStorage:
    """Awaits a store over a network, as many needs at once as there are; see `Storage`."""

    def __init__(self, store: NetworkStore, observer: Observer, resume: Resume) -> None:
        self.sync: Sync | None = None
        self._store = store
        self._observer = observer
        self._resume = resume
        # The loop itself would forget them.
        self._tasks: set[asyncio.Task[None]] = set()

    def meet(self, job: Any, need: Load | Count | Commit) -> Any:
        task = asyncio.get_running_loop().create_task(self._go_on(job, self._met(need)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return LATER

    def close(self) -> None:
        """Does nothing: there are no threads."""

    async def _go_on(self, job: Any, met: Coroutine[Any, Any, Any]) -> None:
        try:
            result = await met
        except Exception as error:  # noqa: BLE001 - the round's to judge.
            self._observer.store_failed(error)
            result = error
        self._resume(job, result)

    async def _met(self, need: Load | Count | Commit) -> Any:
        start_ns = time.perf_counter_ns()
        if isinstance(need, Commit):
            verdicts = await self._store.commit(need.changes)
            failed = next((each for each in verdicts if isinstance(each, StoreError)), None)
            if failed is not None:
                self._observer.store_failed(failed)
            elif not _is_any_open(verdicts):
                self._observer.committed(time.perf_counter_ns() - start_ns)
            return verdicts
        if isinstance(need, Load):
            loaded = await self._store.load(need.keys)
            self._observer.loaded(len(need.keys), time.perf_counter_ns() - start_ns)
            return loaded
        return await self._store.counts(need.owner)


def _is_any_open(verdicts: Sequence[Verdict | StoreError]) -> bool:
    """Says whether the store has not judged one of some changes."""
    for verdict in verdicts:  # noqa: SIM110 - a generator costs a tick as much as all of this.
        if isinstance(verdict, (Contended, StoreError)):
            return True
    return False

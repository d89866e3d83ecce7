"""Commits that wait while another process has the store locked, without blocking the loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from tickcell.server.rounds import STORE_WAIT_S
from tickcell.server.store.contract import Contended, Unknown
from tickcell.server.store.errors import StoreError

if TYPE_CHECKING:
    from tickcell.server.store.contract import Change, Verdict

    Settle = Callable[[list[Verdict | StoreError]], None]

# A writer holds the lock for some microseconds, unless it stands still in between.
_DELAYS_S = (0.001, 0.004, 0.016)

_log = logging.getLogger(__name__)


class _Commit:
    """Changes of which some are still to be tried again."""

    __slots__ = ("_changes", "_verdicts", "settle", "until_s")

    def __init__(
        self,
        changes: Sequence[Change],
        verdicts: list[Verdict | StoreError],
        settle: Settle,
        until_s: float,
    ) -> None:
        self._changes = changes
        self._verdicts = verdicts
        self.settle = settle
        self.until_s = until_s

    @property
    def verdicts(self) -> list[Verdict | StoreError]:
        """As they are so far."""
        return self._verdicts

    @property
    def places(self) -> list[int]:
        """Which changes are to be tried again."""
        return [
            place for place, verdict in enumerate(self._verdicts) if isinstance(verdict, Contended)
        ]

    def left(self) -> list[Change]:
        """Returns the changes that are to be tried again."""
        return [self._changes[place] for place in self.places]

    def take(self, verdicts: Sequence[Verdict | StoreError]) -> None:
        """Notes what became of those."""
        for place, verdict in zip(self.places, verdicts, strict=True):
            self._verdicts[place] = verdict


class Contention:
    """Tries waiting commits again, all together, until they are through or their time is up."""

    def __init__(self, commit: Callable[[Sequence[Change]], list[Verdict]]) -> None:
        self._commit = commit
        self._waiting: list[_Commit] = []
        self._tries = 0

    def wait(self, changes: Sequence[Change], verdicts: list[Verdict], settle: Settle) -> None:
        """Settles changes later, of which some were contended."""
        until_s = time.monotonic() + STORE_WAIT_S
        self._waiting.append(_Commit(changes, list(verdicts), settle, until_s))
        if len(self._waiting) == 1:
            self._tries = 0
            self._plan()

    def _plan(self) -> None:
        delay_s = _DELAYS_S[min(self._tries, len(_DELAYS_S) - 1)]
        asyncio.get_running_loop().call_later(delay_s, self._try)

    def _try(self) -> None:
        self._tries += 1
        waiting, self._waiting = self._waiting, []
        lefts = [commit.left() for commit in waiting]
        changes = [change for left in lefts for change in left]
        verdicts: Iterator[Verdict | StoreError]
        try:
            verdicts = iter(self._commit(changes))
        except StoreError as error:
            verdicts = iter([error] * len(changes))
        except Exception as error:  # noqa: BLE001 - the edge: logged, and theirs to judge.
            _log.exception("a commit of %d changes failed", len(changes))
            verdicts = iter([Unknown(repr(error))] * len(changes))
        settled = []
        for commit, left in zip(waiting, lefts, strict=True):
            commit.take([next(verdicts) for _ in left])
            if commit.places and time.monotonic() < commit.until_s:
                self._waiting.append(commit)
            else:
                settled.append(commit)
        if self._waiting:
            self._plan()
        for commit in settled:
            commit.settle(commit.verdicts)

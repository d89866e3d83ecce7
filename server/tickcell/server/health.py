"""Whether the server can serve: until it drains, and while its store takes commits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tickcell.server.store.errors import StoreDamagedError, StorePinnedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tickcell.server.store.contract import Pin

# So long may no commit have been possible.
_PATIENCE_S = 3.0
# How often it is judged where nothing is heard.
_PERIOD_S = 1.0
# Whoever judges that much later than it wanted to was stopped itself, and knows nothing.
_LATE_S = 2.0

_log = logging.getLogger(__name__)


class Health:
    """Hears of the store, and judges.

    Attributes:
      is_serving: the last judgement.
      is_draining: whether the server stops; it will not serve again.
      notes: what whoever runs the server should see to although it serves, as sentences.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.is_serving = True
        self.is_draining = False
        self.notes: list[str] = []
        self._monotonic_s = monotonic_s
        self._last_commit_s = self._last_judged_s = monotonic_s()
        self._is_damaged = self._is_pinned = False
        self._has_news = asyncio.Event()
        self._changed = asyncio.Event()

    def commit_was_possible(self) -> None:
        """Hears that the store has judged changes."""
        self._last_commit_s = self._monotonic_s()
        if not self.is_serving:
            self._has_news.set()

    def store_is_away(self) -> None:
        """Hears that the store was never there; it does not serve until a commit is possible."""
        self._last_commit_s = -math.inf
        self.judge()

    def store_failed(self, error: Exception) -> None:
        """Hears that the store could not do what it was asked."""
        if isinstance(error, StoreDamagedError) and not self._is_damaged:
            _log.error("the store is damaged: %s", error)
            self._is_damaged = True
            self._has_news.set()

    def store_was_kept_up(self, error: Exception | None) -> None:
        """Hears what came of the store's upkeep, each second."""
        self._is_pinned = isinstance(error, StorePinnedError)
        if error is None:
            self.commit_was_possible()
        else:
            self.store_failed(error)

    def models_are_missing(self, missing: Mapping[Pin, int]) -> None:
        self.notes = [
            f"{pin.model} {pin.version} ({pin.fingerprint[:12]}) is not in the repository, and "
            f"live sessions are pinned to it ({count})."
            for pin, count in sorted(missing.items())
        ]

    def drain(self) -> None:
        """Serves no more, whatever the store does."""
        self.is_draining = True
        self._show(is_serving=False)

    def judge(self) -> None:
        """Judges by what was heard until now."""
        now_s = self._monotonic_s()
        if now_s - self._last_judged_s > _LATE_S:
            self._last_commit_s = now_s
        self._last_judged_s = now_s
        is_committing = now_s - self._last_commit_s < _PATIENCE_S
        is_able = is_committing and not (self._is_damaged or self._is_pinned)
        if is_able != self.is_serving and not self.is_draining:
            _log.warning("the store accepts commits again" if is_able else "cannot serve for now")
            self._show(is_serving=is_able)

    async def keep_judging(self, period_s: float = _PERIOD_S) -> None:
        """Judges whenever there is news, and each period, until it is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._has_news.wait(), period_s)
            self._has_news.clear()
            self.judge()

    @property
    def changed(self) -> asyncio.Event:
        """Is set when `is_serving` or `is_draining` changes from what it is now."""
        return self._changed

    def _show(self, *, is_serving: bool) -> None:
        self.is_serving = is_serving
        # Wakes whoever waits now; who waits from now on waits for the next change.
        self._changed.set()
        self._changed = asyncio.Event()

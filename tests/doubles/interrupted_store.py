"""A store in memory with another writer, which comes between a load and its commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from doubles.manual_clock import ManualClock
from tickcell.server.store import Change, Full, Key, MemoryStore, StoreDamagedError, Verdict


class InterruptedStore(MemoryStore):
    """Keeps records as `MemoryStore` does.

    Attributes:
      interruptions: what to do before each of the next commits.
      load_count: how many loads there were so far.
      change_counts: of each commit so far, the interruptions' own included.
      is_full: whether commits are refused.
      trouble: what becomes of commits instead, if anything.
      is_upset: whether scans fail as nothing should.
      fails_behind: whether commits fail once they are done.
      torn: the key of a record on a damaged page, if any.
    """

    def __init__(self, clock: ManualClock | None = None) -> None:
        super().__init__()
        self._hand = clock
        self.interruptions: list[Callable[[], object]] = []
        self.load_count = 0
        self.change_counts: list[int] = []
        self.is_full = False
        self.trouble: Verdict | Exception | None = None
        self.is_upset = self.fails_behind = False
        self.torn: Key | None = None

    def now_ns(self) -> int:
        return super().now_ns() if self._hand is None else self._hand.now_ns()

    def load(self, keys: Sequence[Key]) -> list[bytes | None]:
        self.load_count += 1
        if self.torn in keys:
            raise StoreDamagedError("store: a page does not check out.")
        return super().load(keys)

    def commit(self, changes: Sequence[Change]) -> list[Verdict]:
        if self.interruptions:
            self.interruptions.pop(0)()
        self.change_counts.append(len(changes))
        trouble = Full("store: no room to write; make room.") if self.is_full else self.trouble
        if isinstance(trouble, Exception):
            raise trouble
        if trouble is not None:
            return [trouble for _ in changes]
        verdicts = super().commit(changes)
        if self.fails_behind:
            raise ArithmeticError("upset behind a commit")
        return verdicts

    def scan(self, owner: str | None, after: Key | None, limit: int) -> list[tuple[Key, bytes]]:
        if self.is_upset:
            raise ArithmeticError("upset by a scan")
        return super().scan(owner, after, limit)

"""A store in memory with another writer, which comes between a load and its commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tickcell.server.store import Change, Full, Key, MemoryStore, StoreError, Verdict


class InterruptedStore(MemoryStore):
    """Keeps records as `MemoryStore` does.

    Attributes:
      interruptions: what to do before each of the next commits.
      load_count: how many loads there were so far.
      change_counts: of each commit so far, the interruptions' own included.
      is_full: whether commits are refused.
      trouble: what becomes of commits instead, if anything.
    """

    def __init__(self) -> None:
        super().__init__()
        self.interruptions: list[Callable[[], object]] = []
        self.load_count = 0
        self.change_counts: list[int] = []
        self.is_full = False
        self.trouble: Verdict | StoreError | None = None

    def load(self, keys: Sequence[Key]) -> list[bytes | None]:
        self.load_count += 1
        return super().load(keys)

    def commit(self, changes: Sequence[Change]) -> list[Verdict]:
        if self.interruptions:
            self.interruptions.pop(0)()
        self.change_counts.append(len(changes))
        trouble = Full("store: no room to write; make room.") if self.is_full else self.trouble
        if isinstance(trouble, StoreError):
            raise trouble
        if trouble is not None:
            return [trouble for _ in changes]
        return super().commit(changes)

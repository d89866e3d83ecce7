"""A store over a network as tests of every store see it: each call waits for its answer."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from doubles.in_process_server import in_loop
from tickcell.server.store import (
    Change,
    Counts,
    Key,
    NetworkStore,
    Pin,
    Served,
    Sizes,
    StoreError,
    Verdict,
)

if TYPE_CHECKING:
    from typing import Self

_Result = TypeVar("_Result")


class BlockingStore:
    """Is used like an embedded store, in the loop of the servers of this process.

    Attributes:
      awaited: the store.
    """

    syncs = False

    def __init__(self, awaited: NetworkStore) -> None:
        self.awaited = awaited

    def open(self) -> Self:
        """Opens the store; it need not be there."""
        _wait(self.awaited.open())
        return self

    @property
    def id(self) -> str:
        return self.awaited.id

    @property
    def note(self) -> str:
        return self.awaited.note

    def now_ns(self) -> int:
        return self.awaited.now_ns()

    def load(self, keys: Sequence[Key]) -> list[bytes | None]:
        return _wait(self.awaited.load(keys))

    def commit(self, changes: Sequence[Change]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for verdict in _wait(self.awaited.commit(changes)):
            if isinstance(verdict, StoreError):
                raise verdict
            verdicts.append(verdict)
        return verdicts

    def make_durable(self) -> None:
        """Does nothing: what the store says is durable."""

    def scan(self, owner: str | None, after: Key | None, limit: int) -> list[tuple[Key, bytes]]:
        return _wait(self.awaited.scan(owner, after, limit))

    def counts(self, owner: str | None = None) -> Counts:
        return _wait(self.awaited.counts(owner))

    def pinned(self) -> dict[Pin, int]:
        return _wait(self.awaited.pinned())

    def announce(self, served: Served) -> None:
        self.awaited.announce(served)

    def peers(self) -> list[Served]:
        return self.awaited.peers()

    def sizes(self) -> Sizes:
        return _wait(self.awaited.sizes())

    def upkeep(self) -> None:
        _wait(self.awaited.upkeep())

    def close(self) -> None:
        _wait(self.awaited.close())


def _wait(work: Coroutine[Any, Any, _Result]) -> _Result:
    return in_loop(lambda: work)

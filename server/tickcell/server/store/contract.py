"""What every store promises: records by owner and session, replaced by compare-and-put.

A store of this machine (`EmbeddedStore`) never waits: what another process has
locked comes back as `Contended`. One over a network (`NetworkStore`) promises the same,
and is awaited. Whoever but the rounds uses a store awaits it, wherever it is
(`AwaitedStore`; see `in_slices` for one of this machine).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.server.store.errors import StoreError


class Key(NamedTuple):
    """Where a record lies. The owner is "" where callers are not identified."""

    owner: str
    session: str


class Pin(NamedTuple):
    """The model version to which a session is pinned."""

    model: str
    version: str
    fingerprint: str


class Change(NamedTuple):
    """Replaces one record, if it still is what the caller read.

    Whole values are compared, not revision numbers: a record that was removed and
    created anew in between can never pass for the old one.

    Attributes:
      expected: what the caller read; None stands for no record.
      replacement: what to store; None removes the record.
      was_live, is_live: whether the session counts as live before and after. Only a
        change from one to the other touches the counts: a step costs nothing.
      pin: what the session is pinned to from now on; None leaves that as it is.
    """

    key: Key
    expected: bytes | None
    replacement: bytes | None
    was_live: bool = True
    is_live: bool = True
    pin: Pin | None = None


# Verdicts are no tuples, since those of different classes would be equal.
@dataclasses.dataclass(frozen=True, slots=True)
class Applied:
    """The record is the replacement now (or was already: a retry of our own)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lost:
    """The record is another than was expected; it is left alone."""

    found: bytes | None


@dataclasses.dataclass(frozen=True, slots=True)
class Full:
    """There is no room for this change, and nothing of it was applied; others may have been."""

    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class Contended:
    """Another process has the store locked: nothing was handed over; try again soon."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unknown:
    """Whether it was applied is not known: the disk or the network failed behind the hand-over."""

    why: str


Verdict = Applied | Lost | Full | Contended | Unknown

APPLIED = Applied()

# Returns what is wrong with a record, in half a sentence; None if nothing is.
RecordCheck = Callable[[Key, bytes], str | None]


class Counts(NamedTuple):
    """How many records there are."""

    live: int
    ended: int


class Served(NamedTuple):
    """What one of the store's servers can run.

    Attributes:
      loaded: the model versions whose sessions it can advance.
      offered: those of them that it gives to new sessions.
    """

    loaded: frozenset[Pin]
    offered: frozenset[Pin]


class Sizes(NamedTuple):
    """How many bytes the store's files have: all sessions, and what is logged of them."""

    database: int
    log: int


class EmbeddedStore(Protocol):
    """Keeps records; the only holder of state in a server.

    One thread loads, commits and scans; `make_durable`, `sizes` and `upkeep` may run in
    others meanwhile. Every method may raise StoreDamagedError (pages do not check out, files
    are gone) and StoreAwayError (it cannot be reached or written for now).

    Attributes:
      id: drawn when the store is created, and again by `restore`: 16 bytes in hexadecimal.
      note: what the banner says of the start; "" if nothing.
      syncs: whether an answer waits for `make_durable`.
    """

    @property
    def id(self) -> str: ...

    @property
    def note(self) -> str: ...

    @property
    def syncs(self) -> bool: ...

    def now_ns(self) -> int:
        """Returns the store's own clock, by which idle time, retention and sweeps are measured.

        It begins at 0 when the store is created and advances only while a server keeps it
        up and steps find room, so no wall clock, pause, outage or full disk ends a session.
        It is the same for all servers, and goes back in one case: see StorePutBackError.
        """
        ...

    def load(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Reads records at one moment, in the order of the keys; None where there is none."""
        ...

    def commit(self, changes: Sequence[Change]) -> list[Verdict]:
        """Applies each change whose record is as expected, all of them at one moment.

        One that is not as expected leaves the others alone. Keys are different. An error
        that is raised, unlike the verdict `Unknown`, means that nothing was applied.
        """
        ...

    def make_durable(self) -> None:
        """Returns when all that any process has committed before is as durable as promised.

        Where `syncs` is set, it is called in a thread between a commit or load and the
        answer that shows it: what was read may be another server's latest commit.
        """
        ...

    def scan(self, owner: str | None, after: Key | None, limit: int) -> list[tuple[Key, bytes]]:
        """Reads up to `limit` records after a key, by owner and session.

        Args:
          owner: bounds the scan to one owner's records; None for all owners.
          after: the key behind which to begin; None for the beginning.
          limit: the most records to return.
        """
        ...

    def counts(self, owner: str | None = None) -> Counts:
        """Returns the counts kept beside the records: of one owner, or of all together."""
        ...

    def pinned(self) -> dict[Pin, int]:
        """Returns how many live sessions are pinned to each model version; those with none not."""
        ...

    def announce(self, served: Served) -> None:
        """Tells the store's other servers what this one serves, from the next upkeep on.

        It is heard for as long as this server keeps the store up, and some seconds longer.
        """
        ...

    def peers(self) -> list[Served]:
        """Returns what the store's other servers have announced, as the last upkeep found it."""
        ...

    def sizes(self) -> Sizes:
        """Returns how large its files are; 0 where it has none."""
        ...

    def upkeep(self) -> None:
        """Does, in a thread, what is due each second: clock, syncs, checkpoints, watch, reserve.

        Raises:
          StoreError: the first thing that failed; what could be done besides was done.
        """
        ...

    def close(self) -> None:
        """Syncs for the last time and gives the store back."""
        ...


class AwaitedStore(abc.ABC):
    """A store as it is awaited; each method promises what `EmbeddedStore`'s of its name does.

    Every method that is awaited may raise StoreDamagedError and StoreAwayError.

    Attributes:
      id: "" as long as a store over a network was never reached.
    """

    @property
    @abc.abstractmethod
    def id(self) -> str: ...

    @abc.abstractmethod
    def now_ns(self) -> int: ...

    @abc.abstractmethod
    async def scan(
        self, owner: str | None, after: Key | None, limit: int
    ) -> list[tuple[Key, bytes]]: ...

    @abc.abstractmethod
    async def counts(self, owner: str | None = None) -> Counts: ...

    @abc.abstractmethod
    async def pinned(self) -> dict[Pin, int]: ...

    @abc.abstractmethod
    def announce(self, served: Served) -> None: ...

    @abc.abstractmethod
    def peers(self) -> list[Served]: ...

    @abc.abstractmethod
    async def sizes(self) -> Sizes: ...

    @abc.abstractmethod
    async def upkeep(self) -> None: ...

    def release(self) -> None:  # noqa: B027 - most have nothing to give back.
        """Ends what the awaiting itself has taken; the store can be closed then."""


class NetworkStore(AwaitedStore):
    """A store over a network: all of it is awaited.

    What it has taken is as durable as promised when it says so, and what it shows is.

    Attributes:
      durability: what an acknowledged commit survives; "" as long as the store, which keeps
        it, was never reached.
      note: as `EmbeddedStore`'s; also why it is away.
    """

    durability: str

    @property
    @abc.abstractmethod
    def note(self) -> str: ...

    @abc.abstractmethod
    async def open(self) -> None:
        """Connects, and again whenever the store was away, until it is closed.

        A store that is away for now is no error: `note` says why, and all but this and
        `close` raises StoreAwayError meanwhile.

        Raises:
          StoreStartError: it can be reached and is not such a store; the class says why.
          StoreDamagedError: what it says of itself does not check out.
        """

    @abc.abstractmethod
    async def load(self, keys: Sequence[Key]) -> list[bytes | None]: ...

    @abc.abstractmethod
    async def commit(self, changes: Sequence[Change]) -> list[Verdict | StoreError]:
        """Applies each change whose record is as expected; each in a transaction, or with others.

        Other than an embedded store's, changes that are committed together need not become
        visible at one moment. Of a change that was never handed over, the verdict is the
        StoreError that says why. `Contended` is one whose record was locked for too long.
        """

    @abc.abstractmethod
    async def close(self) -> None: ...

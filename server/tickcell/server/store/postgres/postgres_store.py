"""A store in PostgreSQL, shared by the servers of many machines.

It is reached by four connections, of which each has one statement in flight: two for
commits (see `commits`), one for what ticks wait to read, and one for the rest. When one
of them fails, all are dropped, and the primary is looked for until there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import asyncpg

from tickcell.server.store.contract import Counts, Key, NetworkStore, Pin, Served, Sizes
from tickcell.server.store.errors import StoreAwayError, StoreError
from tickcell.server.store.postgres import address as addresses
from tickcell.server.store.postgres import (
    identity,
    keeping,
    levels,
    primary,
    refusals,
    schema,
    statements,
)
from tickcell.server.store.postgres.commits import Commits
from tickcell.server.store.postgres.link import LIMIT_S, BrokenError, Link
from tickcell.server.store.postgres.reads import Reads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.server.store.contract import Change, Verdict
    from tickcell.server.store.postgres.levels import Level
    from tickcell.server.store.store_clock import Monotonic

# How long after a failure the primary is looked for again.
_DELAYS_S = (0.05, 0.1, 0.2, 0.5, 1.0)

_FEW = (statements.STEP, statements.STEPS)
_MANY = (*_FEW, statements.WAITING_STEP, statements.EXCHANGE)
_LOADS = (statements.LOAD, statements.LOADS, statements.COUNTS, statements.OWNER_COUNTS)
_OTHERS = (
    *(statements.SCAN, statements.SCAN_OWNER, statements.SCAN_FROM_THE_BEGINNING),
    *(statements.PINNED, statements.SIZES, identity.READ, keeping.KEEP, keeping.LEAVE),
    *(levels.STANDBYS, schema.FIND),
)

_log = logging.getLogger(__name__)


class PostgresStore(NetworkStore):
    """Keeps records in PostgreSQL; see `NetworkStore` for the contract."""

    def __init__(
        self,
        address: str,
        *,
        durability: Level | None = None,
        monotonic_ns: Monotonic = time.monotonic_ns,
        limit_s: float = LIMIT_S,
    ) -> None:
        """Prepares it; `open` connects.

        Args:
          address: as libpq writes it; it may name several hosts, of which one is the primary.
          durability: what an acknowledged commit must survive; None for what the store keeps.
          monotonic_ns: tells the time, by the kernel's monotonic clock.
          limit_s: how long a statement may take before its connection is dropped.

        Raises:
          NotAStoreError: the address is none, or holds a password.
        """
        self._address = addresses.parse(address)
        self._wanted = durability
        self._limit_s = limit_s
        self._keeping = keeping.Keeping(self._address, monotonic_ns)
        self._timeline = 0
        self._connected: _Connected | None = None
        self._why_away = f"{address}: it is not connected yet."
        self._is_lost = asyncio.Event()
        self._reconnecting: asyncio.Task[None] | None = None
        self.durability: str = durability or ""

    @property
    def id(self) -> str:
        return self._keeping.id

    @property
    def note(self) -> str:
        return "" if self._connected is not None else f"the store is away: {self._why_away}"

    async def open(self) -> None:
        addresses.require_files(self._address)
        try:
            await self._connect()
        except StoreAwayError as error:
            self._why_away = str(error)
            self._is_lost.set()
            _log.warning("the store is away: %s", error)
        self._reconnecting = asyncio.create_task(self._stay_connected())

    def now_ns(self) -> int:
        return self._keeping.now_ns()

    async def load(self, keys: Sequence[Key]) -> list[bytes | None]:
        return await self._reached().reads.load(keys)

    async def commit(self, changes: Sequence[Change]) -> list[Verdict | StoreError]:
        return await self._reached().commits.commit(changes)

    async def scan(
        self, owner: str | None, after: Key | None, limit: int
    ) -> list[tuple[Key, bytes]]:
        return await self._reached().reads.scan(owner, after, limit)

    async def counts(self, owner: str | None = None) -> Counts:
        return await self._reached().reads.counts(owner)

    async def pinned(self) -> dict[Pin, int]:
        return await self._reached().reads.pinned()

    async def sizes(self) -> Sizes:
        return await self._reached().reads.sizes()

    def announce(self, served: Served) -> None:
        self._keeping.announce(served)

    def peers(self) -> list[Served]:
        return self._keeping.peers

    async def upkeep(self) -> None:
        connected = self._reached()
        with connected.reads.errors():
            if self.durability == "replicated":
                standbys = levels.standbys(await connected.others.shielded(levels.STANDBYS))
                if not standbys.synchronous:
                    why = levels.lacks_standby(self._address, standbys)
                    self._lose(connected, str(why))
                    raise why
            kept = await self._keeping.keep(connected.others)
            ((version,),) = await connected.others.shielded(schema.FIND)
        if version != schema.version():
            self._lose(connected, f"{self._address}: its schema was changed.")
        elif kept.durability != self.durability:
            self._lose(connected, f"{self._address}: its durability was changed.")

    async def close(self) -> None:
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        connected, self._connected = self._connected, None
        if connected is not None:
            # The row of a server that cannot write it away is aged by the others.
            with contextlib.suppress(BrokenError, asyncpg.PostgresError):
                await self._keeping.leave(connected.others)
            await connected.drop(f"{self._address}: it is closed.")

    def _reached(self) -> _Connected:
        if self._connected is None:
            raise StoreAwayError(self._why_away)
        return self._connected

    async def _connect(self) -> None:
        """Looks for the primary, and connects to it.

        Raises:
          StoreStartError, StoreDamagedError, StoreAwayError: see `primary`.
        """
        found = await primary.find(self._address, self._timeline)
        opened = [found.connection]
        try:
            kept = await primary.require_sound(
                self._address, found, self._wanted, self._timeline, self._limit_s
            )
            for _ in range(3):
                opened.append(await primary.connect(found.host, kept.durability))
            self._keeping.begin(kept)
            connected = _Connected(self, opened, self._limit_s)
            await connected.prepare()
        except BaseException as error:
            for connection in opened:
                connection.terminate()
            if isinstance(error, (asyncpg.PostgresError, *refusals.BREAKS)):
                why = f"{self._address}: cannot be queried ({refusals.words(error)})."
                raise StoreAwayError(why) from error
            raise
        self.durability = kept.durability
        self._timeline = found.timeline
        self._connected = connected
        self._is_lost.clear()

    def _lose(self, connected: _Connected, why: str) -> None:
        """Drops all connections, since one of them is of no use any more."""
        if self._connected is connected:
            self._connected = None
            self._why_away = why
            _log.warning("the store is away: %s", why)
            self._is_lost.set()
            connected.give_up(why)

    async def _stay_connected(self) -> None:
        """Connects again whenever the connections are lost, whatever it meets."""
        while True:
            await self._is_lost.wait()
            tries = 0
            while self._connected is None:
                await asyncio.sleep(_DELAYS_S[min(tries, len(_DELAYS_S) - 1)])
                tries += 1
                try:
                    await self._connect()
                except StoreError as error:
                    self._say(str(error))
                except Exception as error:  # noqa: BLE001 - the edge: logged, and tried again.
                    _log.exception("connecting to %s failed", self._address)
                    self._say(f"{self._address}: {error!r}.")
            _log.info("the store is back: %s", self._address)

    def _say(self, why: str) -> None:
        if why != self._why_away:
            _log.warning("the store is away: %s", why)
        self._why_away = why


class _Connected:
    """The connections to one primary.

    Attributes:
      commits, reads: what they are for.
      others: the connection for what no tick waits for.
    """

    def __init__(
        self, store: PostgresStore, connections: Sequence[asyncpg.Connection[Any]], limit_s: float
    ) -> None:
        self._store = store
        self._links = [Link(each, self._broken, limit_s) for each in connections]
        self.others, few, many, loads = self._links
        self.commits = Commits(store._address, few, many, self._broken)
        self.reads = Reads(store._address, loads, self.others)
        self._uses = zip(self._links, (_OTHERS, _FEW, _MANY, _LOADS), strict=True)

    async def prepare(self) -> None:
        """Prepares all statements."""
        await asyncio.gather(*(link.prepare(*uses) for link, uses in self._uses))

    def give_up(self, why: str) -> None:
        """Drops the connections where they stand; what was handed over is unknown."""
        self.commits.give_up(why)
        for link in self._links:
            link.drop("one of the connections failed, so all were closed")

    async def drop(self, why: str) -> None:
        """Drops the connections, and waits for those who used them to hear of it."""
        self.give_up(why)
        await self.commits.end()

    def _broken(self, why: str) -> None:
        self._store._lose(self, f"{self._store._address}: {why}.")

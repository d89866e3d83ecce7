"""Reads: loads that arrive while one is in flight go together in the next."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import asyncpg

from tickcell.server.store.contract import Counts, Key, Pin, Sizes
from tickcell.server.store.errors import StoreAwayError, StoreDamagedError
from tickcell.server.store.postgres import refusals, statements
from tickcell.server.store.postgres.link import BrokenError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tickcell.server.store.postgres.address import Address
    from tickcell.server.store.postgres.link import Link

    _Load = tuple[Sequence[Key], asyncio.Future[list[bytes | None]]]

# In one statement; a round asks for no more.
_MOST_KEYS = 256


class Reads:
    """Reads records and what is counted of them. All may raise StoreAwayError."""

    def __init__(self, address: Address, loads: Link, others: Link) -> None:
        """Begins.

        Args:
          address: of the store, for what is said.
          loads: what ticks wait for.
          others: what they do not.
        """
        self._address = address
        self._loads = loads
        self._others = others
        self._waiting: list[_Load] = []
        self._loading: asyncio.Task[None] | None = None

    async def load(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Reads records; see `EmbeddedStore.load`."""
        if not keys:
            return []
        loaded: asyncio.Future[list[bytes | None]] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, loaded))
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load())
        return await loaded

    async def scan(
        self, owner: str | None, after: Key | None, limit: int
    ) -> list[tuple[Key, bytes]]:
        """Reads records in order; see `EmbeddedStore.scan`."""
        with self.errors():
            if owner is not None:
                behind = after.session.encode() if after else b""
                rows = await self._others.shielded(
                    statements.SCAN_OWNER, owner.encode(), behind, limit
                )
            elif after is not None:
                behind_owner, behind = after.owner.encode(), after.session.encode()
                rows = await self._others.shielded(statements.SCAN, behind_owner, behind, limit)
            else:
                rows = await self._others.shielded(statements.SCAN_FROM_THE_BEGINNING, limit)
            return [
                (statements.key_of(row_owner, session), value) for row_owner, session, value in rows
            ]

    async def counts(self, owner: str | None = None) -> Counts:
        """Returns the counts kept beside the records; see `EmbeddedStore.counts`."""
        with self.errors():
            if owner is None:
                rows = await self._loads.shielded(statements.COUNTS)
            else:
                rows = await self._loads.shielded(statements.OWNER_COUNTS, owner.encode())
            if owner is None and not rows:
                raise StoreDamagedError(f"{self._address}: its counts are gone.")
            return Counts(*rows[0]) if rows else Counts(0, 0)

    async def pinned(self) -> dict[Pin, int]:
        """Returns the live sessions by model version; see `EmbeddedStore.pinned`."""
        with self.errors():
            rows = await self._others.shielded(statements.PINNED)
            return {Pin(*pin): live for *pin, live in rows}

    async def sizes(self) -> Sizes:
        """Returns how much the table of records takes; the log is of all of PostgreSQL."""
        with self.errors():
            rows = await self._others.shielded(statements.SIZES)
            return Sizes(rows[0][0], 0)

    async def _load(self) -> None:
        """Loads what waits, as long as any does."""
        while self._waiting:
            loads = self._taken()
            keys = [key for asked, _ in loads for key in asked]
            try:
                with self.errors():
                    found = await self._find(keys)
            except Exception as error:  # noqa: BLE001 - theirs to judge.
                for _, loaded in loads:
                    if not loaded.done():
                        loaded.set_exception(error)
                continue
            for asked, loaded in loads:
                records, found = found[: len(asked)], found[len(asked) :]
                if not loaded.done():
                    loaded.set_result(records)
        self._loading = None

    async def _find(self, keys: Sequence[Key]) -> list[bytes | None]:
        owners, sessions = statements.key_columns(keys)
        found: list[bytes | None] = [None] * len(keys)
        if len(keys) == 1:
            rows = await self._loads.fetch(statements.LOAD, owners[0], sessions[0])
            return [rows[0][0]] if rows else found
        for place, value in await self._loads.fetch(statements.LOADS, owners, sessions):
            found[place - 1] = value
        return found

    def _taken(self) -> list[_Load]:
        taken = [self._waiting.pop(0)]
        count = len(taken[0][0])
        while self._waiting and count + len(self._waiting[0][0]) <= _MOST_KEYS:
            taken.append(self._waiting.pop(0))
            count += len(taken[-1][0])
        return taken

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Raises what PostgreSQL and the network raise as errors of the store."""
        try:
            yield
        except BrokenError as error:
            raise StoreAwayError(f"{self._address}: {error}.") from error
        except asyncpg.PostgresError as error:
            raise refusals.typed(self._address, error) from error
        except UnicodeDecodeError as error:
            raise StoreDamagedError(f"{self._address}: a row holds no text ({error}).") from error

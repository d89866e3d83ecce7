"""One connection to PostgreSQL, with one statement in flight, of which none is ever cancelled.

To cancel a commit that waits for its standby makes it visible without being replicated;
a retry would be answered from it, and a promotion would lose it. So where the time is
up, the socket is dropped, and what became of the statement is not known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import asyncpg

from tickcell.server.store.postgres import refusals

if TYPE_CHECKING:
    from asyncpg.prepared_stmt import PreparedStatement

# Far longer than any statement takes, a wait for a lock included, where all is well; and no
# longer than health waits before it says that nothing can be committed.
LIMIT_S = 3.0

# What says that the connection is at its end, whatever became of the statement.
_ENDS = ("08", "57P")


class BrokenError(Exception):
    """The connection is gone, and what became of the statement is not known."""


class Link:
    """A connection that is dropped when it fails."""

    def __init__(
        self,
        connection: asyncpg.Connection[Any],
        broken: Callable[[str], None],
        limit_s: float = LIMIT_S,
    ) -> None:
        """Takes a connection over.

        Args:
          connection: to the primary.
          broken: hears why the link is of no use any more.
          limit_s: how long a statement may take.
        """
        self._connection = connection
        self._broken = broken
        self._limit_s = limit_s
        self._prepared: dict[str, PreparedStatement[Any]] = {}
        # Why it is of no use, though the driver has not failed or says less.
        self._why = ""
        self._lock = asyncio.Lock()
        connection.add_log_listener(self._hear)
        connection.add_termination_listener(self._end)

    async def prepare(self, *statements: str) -> None:
        """Prepares statements, so that the first who needs one does not wait for it."""
        for statement in statements:
            self._prepared[statement] = await self._connection.prepare(statement)
        # asyncpg lets a transaction stand open behind what it prepares, with locks on tables.
        await self._connection.execute("SELECT 1")

    async def fetch(self, statement: str, *values: object) -> list[Any]:
        """Runs a prepared statement when those before are done, and returns its rows.

        It must not be cancelled: asyncpg would send a cancel request. See `shielded`.

        Raises:
          BrokenError: it may have been done or not.
          asyncpg.PostgresError: PostgreSQL has refused it, and nothing was done.
        """
        async with self._lock:
            timer = asyncio.get_running_loop().call_later(self._limit_s, self._time_out)
            try:
                rows: list[Any] = await self._prepared[statement].fetch(*values)
            except asyncpg.PostgresError as error:
                if str(error.sqlstate).startswith(_ENDS):
                    raise self._is_broken(refusals.words(error)) from error
                raise
            except refusals.BREAKS as error:
                raise self._is_broken(refusals.words(error)) from error
            finally:
                timer.cancel()
            if self._why:
                # Such as that somebody ended a wait for the standby by hand.
                raise self._is_broken(self._why)
            return rows

    async def shielded(self, statement: str, *values: object) -> list[Any]:
        """Runs a statement to its end, though its caller may leave."""
        return await asyncio.shield(asyncio.create_task(self.fetch(statement, *values)))

    def drop(self, why: str) -> None:
        """Drops the connection where it stands; whoever waits for a statement hears why."""
        self._why = self._why or why
        self._connection.remove_termination_listener(self._end)
        self._connection.terminate()

    def _time_out(self) -> None:
        self.drop(f"it has not answered for {self._limit_s:g} s")

    def _is_broken(self, why: str) -> BrokenError:
        error = BrokenError(f"PostgreSQL: {self._why or why}")
        self.drop(why)
        self._broken(str(error))
        return error

    def _end(self, _: object) -> None:
        self._broken("PostgreSQL has closed the connection")

    def _hear(self, _: object, message: asyncpg.PostgresLogMessage) -> None:
        if message.severity_en == "WARNING":
            self._why = f"warned: {message}"

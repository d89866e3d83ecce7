"""Commits: what arrives while a statement is in flight is the next one, on two connections.

One carries a few steps at a time and never waits for a lock, so that a lone tick is
late for nobody. The other carries many steps together, and what may have to wait: the
changes of lives, and the steps of a session that another server holds at the moment.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from tickcell.server.store.contract import (
    APPLIED,
    Change,
    Contended,
    Full,
    Lost,
    Unknown,
    Verdict,
)
from tickcell.server.store.errors import StoreAwayError, StoreError
from tickcell.server.store.postgres import refusals, statements
from tickcell.server.store.postgres.link import BrokenError

if TYPE_CHECKING:
    from tickcell.server.store.postgres.address import Address
    from tickcell.server.store.postgres.link import Link

# In one statement: of the first connection about what takes a millisecond, of the second
# what a round has at most.
_FEW, _MANY = 16, 256
_FEW_BYTES, _MANY_BYTES = 64 * 1024, 1024 * 1024

_log = logging.getLogger(__name__)


class _Commit:
    """Changes that are waited for together."""

    def __init__(self, count: int) -> None:
        self.verdicts: list[Verdict | StoreError] = [Contended()] * count
        self.left = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Item(NamedTuple):
    """A change of a commit."""

    commit: _Commit
    place: int
    change: Change

    def settle(self, verdict: Verdict | StoreError) -> None:
        commit = self.commit
        commit.verdicts[self.place] = verdict
        commit.left -= 1
        if not commit.left and not commit.done.done():
            commit.done.set_result(None)


_Queue = collections.deque[_Item]
_Work = Callable[["Link", list[_Item]], Awaitable[None]]


class Commits:
    """The changes that are in line, and those that are on their way."""

    def __init__(
        self, address: Address, few: Link, many: Link, useless: Callable[[str], None]
    ) -> None:
        """Begins.

        Args:
          address: of the store, for what is said.
          few: carries a few steps at a time.
          many: carries all the rest.
          useless: hears why the links are of no use any more, though they work.
        """
        self._address = address
        self._few = few
        self._many = many
        self._useless = useless
        self._steps: _Queue = collections.deque()
        self._lives: _Queue = collections.deque()
        self._held: _Queue = collections.deque()
        # What the second connection carries, in turns.
        self._turns = collections.deque([self._lives, self._held, self._steps])
        self._busy: dict[Link, asyncio.Task[None]] = {}
        self._away = ""

    async def commit(self, changes: Sequence[Change]) -> list[Verdict | StoreError]:
        """Applies changes; see `NetworkStore.commit`."""
        if self._away:
            return [StoreAwayError(self._away) for _ in changes]
        if not changes:
            return []
        commit = _Commit(len(changes))
        for place, change in enumerate(changes):
            queue = self._steps if statements.is_step(change) else self._lives
            queue.append(_Item(commit, place, change))
        self._send()
        await commit.done
        return commit.verdicts

    def give_up(self, why: str) -> None:
        """Refuses what was not handed over, and all that comes."""
        self._away = why
        for queue in self._turns:
            while queue:
                queue.popleft().settle(StoreAwayError(why))

    async def end(self) -> None:
        """Waits until what was handed over is judged; the links are dropped."""
        await asyncio.gather(*self._busy.values())

    def _send(self) -> None:
        """Hands over what is in line, as far as a connection is free."""
        is_few = 0 < len(self._steps) <= _FEW or self._many in self._busy
        if self._steps and is_few and self._few not in self._busy:
            self._carry(self._few, self._step, _taken(self._steps, _FEW, _FEW_BYTES))
        if self._many in self._busy:
            return
        queue = next((queue for queue in self._turns if queue), None)
        if queue is None:
            return
        self._turns.remove(queue)
        self._turns.append(queue)
        if queue is self._held:
            self._carry(self._many, self._wait, [queue.popleft()])
        else:
            work = self._exchange if queue is self._lives else self._step
            self._carry(self._many, work, _taken(queue, _MANY, _MANY_BYTES))

    def _carry(self, link: Link, work: _Work, items: list[_Item]) -> None:
        judging = self._judge(link, work, items)
        self._busy[link] = asyncio.get_running_loop().create_task(judging)

    async def _judge(self, link: Link, work: _Work, items: list[_Item]) -> None:
        """Has some changes judged, whatever comes of it."""
        verdict: Verdict | StoreError | None = None
        try:
            await work(link, items)
        except BrokenError as error:
            verdict = Unknown(f"{self._address}: {error}")
        except asyncpg.PostgresError as error:
            verdict = self._refusal(error)
        except Exception as error:  # noqa: BLE001 - the edge: logged, and theirs to judge.
            _log.exception("a commit of %d changes failed", len(items))
            verdict = Unknown(repr(error))
        if verdict is not None:
            for item in items:
                item.settle(verdict)
        del self._busy[link]
        if not self._away:
            self._send()

    def _refusal(self, error: asyncpg.PostgresError) -> Verdict | StoreError:
        """Returns what a refusal of PostgreSQL's says of all that was handed over."""
        if refusals.is_contended(error):
            return Contended()
        if refusals.is_full(error):
            return Full(refusals.words(error))
        if refusals.is_useless(error):
            self._useless(f"PostgreSQL refuses ({refusals.words(error)})")
        return refusals.typed(self._address, error)

    async def _step(self, link: Link, items: list[_Item]) -> None:
        if len(items) > 1:
            rows = await link.fetch(
                statements.STEPS, *statements.step_columns([item.change for item in items])
            )
            found = {place - 1: other for place, other in rows}
        else:
            rows = await self._one(link, statements.STEP, items[0])
            found = {index: row[0] for index, row in enumerate(rows)}
        for index, item in enumerate(items):
            if index in found:
                item.settle(_judged(item.change, found[index]))
            elif self._away:
                item.settle(StoreAwayError(self._away))
            else:
                # It is gone, or another holds it: to be seen by who may wait for it.
                self._held.append(item)

    async def _wait(self, link: Link, items: list[_Item]) -> None:
        (item,) = items
        rows = await self._one(link, statements.WAITING_STEP, item)
        item.settle(_judged(item.change, rows[0][0]) if rows else Lost(None))

    async def _one(self, link: Link, statement: str, item: _Item) -> list[Any]:
        (owner, session), expected, replacement, *_ = item.change
        return await link.fetch(statement, owner.encode(), session.encode(), expected, replacement)

    async def _exchange(self, link: Link, items: list[_Item]) -> None:
        changes = [item.change for item in items]
        rows = await link.fetch(statements.EXCHANGE, *statements.exchange_columns(changes))
        for place, is_applied, found in rows:
            item = items[place - 1]
            is_there = is_applied or found == item.change.replacement
            item.settle(APPLIED if is_there else Lost(found))


def _judged(change: Change, other: bytes | None) -> Verdict:
    """Judges a step by what was there instead of what was expected, if anything."""
    return APPLIED if other is None or other == change.replacement else Lost(other)


def _taken(queue: _Queue, most: int, most_bytes: int) -> list[_Item]:
    """Takes what goes in one statement; of one session there is no more than one change."""
    taken: list[_Item] = []
    keys = set()
    size = 0
    while queue and len(taken) < most and size < most_bytes and queue[0].change.key not in keys:
        item = queue.popleft()
        keys.add(item.change.key)
        size += len(item.change.expected or b"") + len(item.change.replacement or b"")
        taken.append(item)
    return taken

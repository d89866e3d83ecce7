"""Requests that wait for their answer: of each session one at a time, in the order of arrival."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from tickcell.server import errors

if TYPE_CHECKING:
    from tickcell.server.rounds import Answer, Request
    from tickcell.server.store.contract import Key


class Entry:
    """A request that was made; awaiting it gives the answer.

    Attributes:
      request: what is asked.
      has_begun: whether a round has begun with it.
      enter_ns: when it was made, by a clock of no known beginning.
    """

    __slots__ = ("_answers", "_caller", "enter_ns", "has_begun", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.has_begun = False
        self.enter_ns = time.perf_counter_ns()
        self._answers: tuple[Answer, ...] = ()
        # Waits for the answer; none if there was nothing to wait for.
        self._caller: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._answers:
            self._caller = asyncio.get_running_loop().create_future()
            yield from self._caller
        answer = self.answer
        if isinstance(answer, errors.TickcellError):
            raise answer
        return answer

    @property
    def answer(self) -> Answer:
        """What it is answered; it must be."""
        (answer,) = self._answers
        return answer

    @property
    def is_settled(self) -> bool:
        """Whether it is answered."""
        return bool(self._answers)

    @property
    def is_left(self) -> bool:
        """Whether its caller waits no more."""
        return self._caller is not None and self._caller.cancelled()

    def settle(self, answer: Answer) -> None:
        """Answers it."""
        self._answers = (answer,)
        if self._caller is not None and not self._caller.done():
            self._caller.set_result(None)


async def all_answers(entries: Sequence[Entry]) -> list[Answer]:
    """Awaits requests that one caller has made together; if it leaves, it leaves them all."""
    waiting = [entry for entry in entries if not entry.is_settled]
    while waiting:
        caller = asyncio.get_running_loop().create_future()
        for entry in waiting:
            entry._caller = caller
        await caller
        waiting = [entry for entry in waiting if not entry.is_settled]
    return [entry.answer for entry in entries]


class Entries:
    """All entries: of each session the one whose turn it is, and those behind it."""

    def __init__(self) -> None:
        self._first: dict[Key, Entry] = {}
        self._behind: dict[Key, collections.deque[Entry]] = {}

    def __len__(self) -> int:
        """The number of sessions with an entry."""
        return len(self._first)

    def first(self, key: Key) -> Entry:
        """Returns the entry of a session whose turn it is."""
        return self._first[key]

    def add(self, entry: Entry) -> bool:
        """Adds an entry; returns whether it is its turn."""
        key = entry.request.key
        if key not in self._first:
            self._first[key] = entry
            return True
        self._behind.setdefault(key, collections.deque()).append(entry)
        return False

    def remove(self, key: Key) -> tuple[Entry, Entry | None]:
        """Removes the entry whose turn it is; returns it, and the one whose turn it is now."""
        entry = self._first.pop(key)
        if key not in self._behind:
            return entry, None
        behind = self._behind[key]
        following = self._first[key] = behind.popleft()
        if not behind:
            del self._behind[key]
        return entry, following

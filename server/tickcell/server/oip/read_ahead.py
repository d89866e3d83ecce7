"""What is read of a stream ahead of its answers: bounded, in order, and in groups.

All sequences of a caller may share one stream. What was read while a group of requests
was answered is the next group, so that sequences take part in rounds together; a request
that comes alone waits for nothing.
"""

from __future__ import annotations

import asyncio
import collections
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tickcell.server import errors
    from tickcell.server.oip.asked import Asked
    from tickcell.server.oip.forms import Said
    from tickcell.server.oip.identity import Sequence

# With so much in hand, nothing more is read: the rest waits in the transport.
MOST_REQUESTS = 32
MOST_BYTES = 64 * 1024


class Read(NamedTuple):
    """A request that was read.

    Attributes:
      size: its bytes.
      start_ns: when it had come, by `time.perf_counter_ns`.
      parsed_ns: when it had been parsed, by the same clock.
      id: its id; "" for none.
      said: what it says beside that; None if it could not be told.
      error: why it could not.
    """

    size: int
    start_ns: int
    parsed_ns: int
    id: str
    said: Said | None
    error: errors.TickcellError | None

    @property
    def asked(self) -> Asked | None:
        """What it asks for, as far as that is known."""
        return None if self.said is None else self.said.form.asked

    @property
    def sequence(self) -> Sequence | None:
        """The sequence that it is of, as far as that is known."""
        return None if self.said is None else self.said.form.asked.sequence


class ReadAhead:
    """The requests of a stream that were read and are not answered yet.

    One task reads and adds, another one takes and answers.
    """

    def __init__(self) -> None:
        self._waiting: collections.deque[Read] = collections.deque()
        # Of those that wait, and those that were taken and are not answered.
        self._count = self._size = 0
        self._has_room, self._has_more = asyncio.Event(), asyncio.Event()
        self._has_room.set()
        self._has_ended = False

    def __len__(self) -> int:
        """The number of requests that are not answered."""
        return self._count

    async def room(self) -> None:
        """Waits until there is room for one more, or nobody will answer any more."""
        await self._has_room.wait()

    def add(self, read: Read) -> None:
        """Adds the request that was read last."""
        self._waiting.append(read)
        self._count += 1
        self._size += read.size
        if self._count >= MOST_REQUESTS or self._size >= MOST_BYTES:
            self._has_room.clear()
        self._has_more.set()

    def end(self) -> None:
        """Says that nothing more is read."""
        self._has_ended = True
        self._has_more.set()

    async def take(self) -> list[Read]:
        """Takes the next requests, as many as are of different sequences, in order.

        Returns:
          At least one of them, and none only at the end.
        """
        await self._has_more.wait()
        taken: list[Read] = []
        sequences: set[Sequence] = set()
        while self._waiting:
            sequence = self._waiting[0].sequence
            if sequence is not None:
                if sequence in sequences:
                    break
                sequences.add(sequence)
            taken.append(self._waiting.popleft())
        if not self._waiting and not self._has_ended:
            self._has_more.clear()
        return taken

    def answered(self, read: Read) -> None:
        """Forgets a request that was taken, and is answered."""
        self._count -= 1
        self._size -= read.size
        if self._count < MOST_REQUESTS and self._size < MOST_BYTES:
            self._has_room.set()

    def abandon(self) -> None:
        """Says that nothing more is answered; who waits for room finds it."""
        self._has_room.set()

"""The streams that are open, of all services: so many and no more, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from tickcell.server import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)


class Stream:
    """An open stream.

    Attributes:
      task: which answers it.
      is_idle: whether that waits for the next request.
    """

    __slots__ = ("is_idle", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.is_idle = False


class Streams:
    """All open streams."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[Stream] = set()
        self._none = asyncio.Event()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Stream]:
        """Holds a place for the stream that the current task answers.

        Raises:
          StreamsFull: there is none.
        """
        if len(self._open) >= self._most:
            raise errors.StreamsFull(
                f"{len(self._open)} streams are open, the most there may be; share a stream among "
                "sessions, or raise --max-streams.",
                max_stream_count=self._most,
            )
        task = asyncio.current_task()
        assert task is not None
        stream = Stream(task)
        self._open.add(stream)
        self._none.clear()
        try:
            yield stream
        finally:
            self._open.discard(stream)
            if not self._open:
                self._none.set()

    async def drain(self, grace_s: float) -> None:
        """Ends the streams, each once its request is answered; waits at most this long.

        The gate must be closed already.
        """
        for stream in self._open:
            if stream.is_idle:
                stream.task.cancel()
        if not self._open:
            return
        try:
            await asyncio.wait_for(self._none.wait(), grace_s)
        except TimeoutError:
            _log.warning("%d streams did not end within %g s", len(self._open), grace_s)

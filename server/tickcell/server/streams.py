"""The open streams of all services: how many there may be, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tickcell.server import calls, errors

if TYPE_CHECKING:
    from tickcell.server.caller import Caller
    from tickcell.server.observer import Observer

_log = logging.getLogger(__name__)


class Stream:
    """An open stream.

    Attributes:
      caller: whose it is.
      context: its call's.
      is_idle: whether it waits for the next request; its service says so.
      end: why it is to end once its request is answered; None as long as it goes on.
    """

    __slots__ = ("_task", "caller", "context", "end", "is_idle")

    def __init__(self, caller: Caller, context: calls.Context, task: asyncio.Task[Any]) -> None:
        self.caller = caller
        self.context = context
        self.is_idle = False
        self.end: errors.TickcellError | None = None
        self._task = task

    def finish(self, why: errors.TickcellError) -> None:
        """Ends it: at once if it is idle, else once its request is answered."""
        if self.end is None:
            self.end = why
            if self.is_idle:
                self._task.cancel()

    def uncancel(self) -> None:
        """Goes on with its task, whose reading `finish` has cancelled."""
        self._task.uncancel()


class Streams:
    """The streams that are open."""

    def __init__(self, gate: calls.Gate, observer: Observer, max_streams: int) -> None:
        self._gate = gate
        self._observer = observer
        self._max_streams = max_streams
        self._open: set[Stream] = set()
        self._none_open = asyncio.Event()

    @contextlib.contextmanager
    def opened(self, context: calls.Context) -> Iterator[Stream]:
        """Admits the stream of the current task, and holds its place.

        Raises:
          Draining, CallerUnknown: see `Gate.admit`.
          StreamsFull: as many are open as there may be.
        """
        caller = self._gate.admit(context)
        if len(self._open) >= self._max_streams:
            raise errors.StreamsFull(
                f"{len(self._open)} streams are open, which is the limit; share a "
                "stream among sessions, or raise --max-streams.",
                max_stream_count=self._max_streams,
            )
        task = asyncio.current_task()
        assert task is not None
        stream = Stream(caller, context, task)
        self._open.add(stream)
        self._observer.open_streams = len(self._open)
        self._none_open.clear()
        try:
            yield stream
        finally:
            self._open.discard(stream)
            self._observer.open_streams = len(self._open)
            if not self._open:
                self._none_open.set()

    def admit_anew(self) -> None:
        """Ends the streams whose callers are not admitted any more, or have another owner."""
        for stream in self._open:
            try:
                caller = self._gate.admit(stream.context)
            except errors.TickcellError as error:
                stream.finish(error)
            except Exception:  # noqa: BLE001 - the edge: it must not go on, nor keep others.
                _log.exception("a stream could not be admitted again")
                stream.finish(errors.internal("the stream"))
            else:
                if caller.owner != stream.caller.owner:
                    stream.finish(errors.caller_unknown("its owner has changed; connect again."))

    async def drain(self, grace_s: float) -> None:
        """Ends the streams, each once its request is answered; waits at most this long.

        The gate must be closed already.
        """
        for stream in self._open:
            stream.finish(calls.draining())
        if not self._open:
            return
        try:
            await asyncio.wait_for(self._none_open.wait(), grace_s)
        except TimeoutError:
            _log.warning("%d streams did not end within %g s", len(self._open), grace_s)

"""One thread for all streams of the process, which ends those that are given up.

It sleeps until the first of them is due. Each step makes a stream due later, so an active
stream never wakes the thread.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import threading
import time
from typing import Protocol


class Watched(Protocol):
    """A stream that is given up at some time."""

    def look(self, now: float) -> float | None:
        """Ends it if it is due; returns when it is due else, and None once it has ended."""


class Watchdog:
    """Looks at each stream when it is due."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wakes = queue.SimpleQueue[None]()

    def watch(self, stream: Watched) -> None:
        """Looks at a stream from now on, until it has ended."""
        with self._lock:
            self._watched.add(stream)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="tickcell-watchdog", daemon=True
                )
                self._thread.start()
        self.wake()

    def wake(self) -> None:
        """Looks at all streams now."""
        self._wakes.put(None)

    def _run(self) -> None:
        while True:
            due_at = self._look()
            wait_s = None if due_at == math.inf else max(0.0, due_at - time.monotonic())
            with contextlib.suppress(queue.Empty):
                self._wakes.get(timeout=wait_s)

    def _look(self) -> float:
        """Looks at all streams; returns when the first is due."""
        with self._lock:
            watched = list(self._watched)
        now = time.monotonic()
        earliest = math.inf
        for stream in watched:
            due_at = stream.look(now)
            if due_at is None:
                with self._lock:
                    self._watched.discard(stream)
            else:
                earliest = min(earliest, due_at)
        return earliest


_watchdog = Watchdog()


def current() -> Watchdog:
    """Returns the process's."""
    return _watchdog


def _begin_anew() -> None:
    # A forked child has neither the thread nor the streams.
    global _watchdog
    _watchdog = Watchdog()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)

"""Sources of frames that count what is drawn from them, and bear one thread at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


class CountedSource:
    """An iterator over frames.

    Attributes:
      drawn: how many frames it gave.
      raised: how many times it raised instead.
    """

    def __init__(self, frames: np.ndarray, raises_at: set[int] | None = None) -> None:
        self._frames = frames
        self._raises_at = set(raises_at or ())
        self._inside = threading.Lock()
        self.drawn = 0
        self.raised = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        if not self._inside.acquire(blocking=False):
            raise AssertionError("two threads in one source")
        try:
            return self._next()
        finally:
            self._inside.release()

    def _next(self) -> np.ndarray:
        self.wait()
        if self.drawn in self._raises_at:
            self._raises_at.remove(self.drawn)
            self.raised += 1
            raise SensorGoneError
        if self.drawn == len(self._frames):
            raise StopIteration
        self.drawn += 1
        frame: np.ndarray = self._frames[self.drawn - 1]
        return frame

    def wait(self) -> None:
        """Waits until the next frame is there; here it always is."""


class SensorGoneError(Exception):
    """What the sources raise."""


class BlockingSource(CountedSource):
    """A source that gives a frame only once it is let, as a sensor does at each tick."""

    def __init__(self, frames: np.ndarray, raises_at: set[int] | None = None) -> None:
        super().__init__(frames, raises_at)
        self._ticks = threading.Semaphore(0)

    def let(self, count: int) -> None:
        """Lets so many more draws through."""
        for _ in range(count):
            self._ticks.release()

    def wait(self) -> None:
        assert self._ticks.acquire(timeout=60)


def generator_over(source: CountedSource) -> Iterator[np.ndarray]:
    """A generator, which Python forbids two threads by itself."""
    yield from source


def wait_until(condition: Callable[[], Any], patience_s: float = 60.0) -> None:
    """Waits for what another thread, or a server, is about to do."""
    done = threading.Event()
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        done.wait(0.01)

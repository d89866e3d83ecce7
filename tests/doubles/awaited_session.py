"""Asyncio sessions that block, so that the tests of `Session` hold both clients to the same."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from tickcell.client import AsyncPacedSession, AsyncSession, Model, PacedSession, Session
from tickcell.client.async_stream import AsyncStream

_T = TypeVar("_T")

# Longer than any test waits for one call.
_LIMIT_S = 120


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Returns an event loop that runs in a thread, for all tests."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="asyncio-of-tests", daemon=True).start()
    return loop


def wait_for(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Returns what a coroutine gives."""
    return asyncio.run_coroutine_threadsafe(coroutine, _loop()).result(_LIMIT_S)


class AwaitedSession:
    """Does what an `AsyncSession` does, and waits for it."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    @classmethod
    def create(cls, *args: Any, **kwargs: Any) -> AwaitedSession:
        async def create() -> AsyncSession:
            return await AsyncSession.create(*args, **kwargs)

        return cls(wait_for(create()))

    @classmethod
    def attach(cls, *args: Any, **kwargs: Any) -> AwaitedSession:
        async def attach() -> AsyncSession:
            return await AsyncSession.attach(*args, **kwargs)

        return cls(wait_for(attach()))

    @classmethod
    def open(cls, *args: Any, **kwargs: Any) -> AwaitedSession:
        async def open_() -> AsyncSession:
            return await AsyncSession.open(*args, **kwargs)

        return cls(wait_for(open_()))

    def __enter__(self) -> AwaitedSession:
        wait_for(self._session.__aenter__())
        return self

    def __exit__(self, *details: Any) -> None:
        wait_for(self._session.__aexit__(*details))

    @property
    def model(self) -> Model:
        return wait_for(self._session.get_model())

    def stream(self, frames: Any, **options: Any) -> Iterator[np.ndarray]:
        return _outputs_of(self._session.stream(self._source(frames), **options))

    def _source(self, frames: Any) -> Any:
        """Returns a source of frames as the session is to draw from it."""
        return frames

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._session, name)
        if not asyncio.iscoroutinefunction(member):
            return member
        return lambda *args, **kwargs: wait_for(member(*args, **kwargs))


class TaskDrawingSession(AwaitedSession):
    """One that makes an asynchronous iterator of each iterator that it streams."""

    # The same one for the same iterator, in all sessions. It is kept, so that no other iterator
    # has its id.
    _sources: ClassVar[dict[int, tuple[Any, AsyncSource]]] = {}

    def _source(self, frames: Any) -> Any:
        if hasattr(frames, "__len__"):
            return frames
        iterator = iter(frames)
        return self._sources.setdefault(id(iterator), (iterator, AsyncSource(iterator)))[1]


class AsyncSource:
    """An iterator, drawn from in a thread so that the event loop goes on, asynchronously."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator

    def __aiter__(self) -> AsyncSource:
        return self

    async def __anext__(self) -> Any:
        end = object()
        frame = await asyncio.to_thread(next, self._iterator, end)
        if frame is end:
            raise StopAsyncIteration
        return frame


class AwaitedPacedSession:
    """Does what an `AsyncPacedSession` does, and waits for it."""

    def __init__(self, session: AwaitedSession, **options: Any) -> None:
        async def begin() -> AsyncPacedSession:
            return AsyncPacedSession(session._session, **options)

        self._paced = wait_for(begin())

    def __enter__(self) -> AwaitedPacedSession:
        wait_for(self._paced.__aenter__())
        return self

    def __exit__(self, *details: Any) -> None:
        wait_for(self._paced.__aexit__(*details))

    def tick(self, frame: Any, due: float | None = None) -> np.ndarray | None:
        return wait_for(self._paced.tick(frame, due))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._paced, name)


def paced_loop(session: Session, **options: Any) -> PacedSession:
    """Returns a session in a paced loop, driven as the session is."""
    if isinstance(session, AwaitedSession):
        return cast("PacedSession", AwaitedPacedSession(session, **options))
    return PacedSession(session, **options)


def _outputs_of(stream: AsyncStream) -> Iterator[np.ndarray]:
    async def next_or_none() -> np.ndarray | None:
        return await anext(stream, None)

    try:
        while (output := wait_for(next_or_none())) is not None:
            yield output
    finally:
        wait_for(stream.aclose())

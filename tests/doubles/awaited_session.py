"""An asyncio session that blocks, so that the tests of `Session` hold both clients to the same."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from tickcell.client import AsyncSession, Model

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

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._session, name)
        if not asyncio.iscoroutinefunction(member):
            return member
        return lambda *args, **kwargs: wait_for(member(*args, **kwargs))

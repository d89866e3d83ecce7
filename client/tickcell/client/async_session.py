"""A session on a server, for asyncio: what `Session` can, awaited.

What is sent, and what a failure means, `session_core` decides, for both.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from tickcell.client import arguments, errors, state_calls, unary_calls
from tickcell.client.async_link import AsyncLink
from tickcell.client.session_core import SessionCore
from tickcell.client.session_view import SessionView

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from tickcell.client import dropout
    from tickcell.client.credentials import Credentials
    from tickcell.client.needs import Operation
    from tickcell.client.resources import Model, SessionInfo
    from tickcell.client.route import Route


class LinkOptions(TypedDict, total=False):
    """How servers are reached; as for `Session.create`."""

    credentials: Credentials | None
    retry_for_s: float | None
    deadline_s: float


class AttachOptions(LinkOptions, total=False):
    """What may be said of a session that exists; as for `Session.attach`."""

    on_dropout: dropout.Policy


class AsyncSession(SessionView):
    """A durable recurrent state on a server, for asyncio.

        async with AsyncSession.create("localhost:50061") as session:
            for frame in recording:
                output = await session.step(frame)

    Leaving the `async with` block deletes the session, unless an exception leaves it, or
    its task is cancelled: then it is kept, and `attach` goes on with it.

    Of one event loop, and not for several tasks at once, `touch` excepted. Any of them may
    be cancelled at any time: a step that is cancelled may have been applied, `next_step` is
    what it was, and the same frame is due again.
    """

    def __init__(self, link: AsyncLink, core: SessionCore) -> None:
        """Wraps a session that exists; see `create` and `attach`."""
        super().__init__(core)
        self._link = link

    @classmethod
    def create(
        cls,
        address: str | Sequence[str],
        session: str = "",
        *,
        model: str = "",
        model_version: str = "",
        series_count: int | None = None,
        window: int = 0,
        idle_ttl_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        export: bytes | None = None,
        **options: Unpack[AttachOptions],
    ) -> Opening:
        """Creates a session; the arguments are those of `Session.create`.

        Returns:
          What gives the session: by `await`, or by `async with`, which also leaves it.

        Raises:
          SessionExistsError: a live session has this id.
          UsageError: an argument cannot be meant.
          TickcellError: any other reason.
        """

        def begin(route: Route) -> Operation[SessionInfo]:
            return unary_calls.create_session(
                route,
                named,
                model=model,
                model_version=model_version,
                series_count=series_count,
                window=window,
                idle_ttl_s=idle_ttl_s,
                labels=labels,
                export=export,
            )

        named = arguments.text("session", session) or str(uuid.uuid4())
        return Opening(lambda: cls._opened(address, named, begin, **options))

    @classmethod
    def open(
        cls,
        address: str | Sequence[str],
        session: str,
        *,
        model: str = "",
        model_version: str = "",
        series_count: int | None = None,
        window: int = 0,
        idle_ttl_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        **options: Unpack[AttachOptions],
    ) -> Opening:
        """Creates a session, or claims it where it lives; as `Session.open`.

        Returns:
          What gives the session: by `await`, or by `async with`, which also leaves it.

        Raises:
          SessionClaimedError: somebody else has claimed it at the same time.
          UsageError: it lives, and is not what is wanted; or an argument cannot be meant.
          TickcellError: any other reason.
        """

        def begin(route: Route) -> Operation[SessionInfo]:
            return state_calls.open_session(
                route,
                named,
                model=model,
                model_version=model_version,
                series_count=series_count,
                window=window,
                idle_ttl_s=idle_ttl_s,
                labels=labels,
            )

        named = arguments.text("session", session)
        return Opening(lambda: cls._opened(address, named, begin, **options))

    @classmethod
    def attach(
        cls, address: str | Sequence[str], session: str, **options: Unpack[AttachOptions]
    ) -> Opening:
        """Goes on with a session that exists; the arguments are those of `Session.attach`.

        Returns:
          What gives the session: by `await`, or by `async with`, which also leaves it.

        Raises:
          SessionEndedError: no session of this id is alive.
          UsageError: an argument cannot be meant.
          TickcellError: any other reason.
        """
        named = arguments.text("session", session)
        return Opening(
            lambda: cls._opened(
                address, named, lambda route: unary_calls.get_session(route, named), **options
            )
        )

    @classmethod
    async def _opened(
        cls,
        address: str | Sequence[str],
        session: str,
        begin: Callable[[Route], Operation[SessionInfo]],
        *,
        on_dropout: dropout.Policy = "raise",
        **options: Unpack[LinkOptions],
    ) -> AsyncSession:
        link = AsyncLink(address, session=session, **options)
        try:
            opened = SessionCore.opened(link.route, begin(link.route), on_dropout)
            return cls(link, await link.run(opened))
        except BaseException:
            await link.close()
            raise

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self.close()
        finally:
            await self.detach()

    async def get_model(self) -> Model:
        """Gets the model that advances the session; asks once.

        Raises:
          ModelUnknownError: the server does not serve it now.
        """
        return await self._link.run(self._core.get_model())

    async def step(
        self, frame: ArrayLike, *, resets: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Advances the session by one frame; as `Session.step`."""
        self._core.check_open()
        return await self._link.run(self._core.step(frame, resets))

    async def steps(
        self,
        frames: ArrayLike,
        out: NDArray[np.float32] | None = None,
        *,
        resets: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Advances the session by any number of frames; as `Session.steps`."""
        self._core.check_open()
        return await self._link.run(self._core.steps(frames, out, resets))

    async def preview(
        self, frames: ArrayLike, *, resets: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Returns the outputs that frames would have; as `Session.preview`."""
        self._core.check_open()
        return await self._link.run(self._core.preview(frames, resets))

    async def kept_outputs(
        self, first_step: int | None = None, count: int = 0
    ) -> tuple[int, NDArray[np.float32]]:
        """Returns outputs that the server still has; as `Session.kept_outputs`."""
        self._core.check_not_closed()
        return await self._link.run(self._core.kept_outputs(first_step, count))

    async def fork(
        self,
        session: str = "",
        *,
        idle_ttl_s: float | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> SessionInfo:
        """Makes another session that goes on from `next_step`; as `Session.fork`."""
        self._core.check_open()
        return await self._link.run(self._core.fork(session, idle_ttl_s=idle_ttl_s, labels=labels))

    async def export(self, *, window: bool = True, end: bool = False) -> bytes:
        """Returns all that the session is; as `Session.export`."""
        self._core.check_open()
        exported = await self._link.run(self._core.export(window=window, end=end))
        if end:
            await self.detach()
        return exported

    async def migrate(self, model_version: str = "", *, burn_in: ArrayLike | None = None) -> None:
        """Goes on with another version of the model; as `Session.migrate`."""
        self._core.check_open()
        await self._link.run(self._core.migrate(model_version, burn_in))

    def rewind(self, step: int) -> None:
        """Goes back to an earlier step; as `Session.rewind`."""
        self._core.check_open()
        self._core.rewind(step)

    async def touch(self) -> None:
        """Renews the session's time to live without advancing it."""
        await self._link.run(self._core.touch())

    async def reset(self) -> None:
        """Starts again from what the session was created with; as `Session.reset`."""
        self._core.check_open()
        await self._link.run(self._core.reset())

    async def close(self) -> None:
        """Deletes the session; one that has ended, or was reset by others, is left at that."""
        if self._core.is_closed:
            return
        await self._link.run(self._core.delete())
        await self.detach()

    async def detach(self) -> None:
        """Leaves the session on the server, to be attached to again."""
        if self._core.is_closed:
            return
        self._core.leave()
        await self._link.close()


class Opening:
    """A session that is being opened: by `await`, or by `async with`, which also leaves it."""

    def __init__(self, opened: Callable[[], Coroutine[Any, Any, AsyncSession]]) -> None:
        self._opened = opened
        self._session: AsyncSession | None = None

    def __await__(self) -> Generator[Any, None, AsyncSession]:
        return self._opened().__await__()

    async def __aenter__(self) -> AsyncSession:
        if self._session is not None:
            raise errors.UsageError(f"{self._session.id}: was opened here already.")
        self._session = await self._opened()
        return self._session

    async def __aexit__(self, kind: type[BaseException] | None, *details: object) -> None:
        assert self._session is not None
        await self._session.__aexit__(kind, *details)

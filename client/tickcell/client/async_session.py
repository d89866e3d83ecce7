"""A session on a server, for asyncio: `Session` with awaited calls.

`session_core` decides for both what is sent, and what a failure means.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from tickcell.client import arguments, errors, state_calls, unary_calls
from tickcell.client.async_drawing import AsyncDrawing
from tickcell.client.async_link import AsyncLink
from tickcell.client.async_pipeline import AsyncPipeline
from tickcell.client.async_stream import AsyncStream
from tickcell.client.drawing import ThreadDrawing
from tickcell.client.session_core import SessionCore
from tickcell.client.session_view import SessionView

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterable,
        Callable,
        Coroutine,
        Generator,
        Iterable,
        Mapping,
        Sequence,
    )

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from tickcell.client import dropout
    from tickcell.client.credentials import Credentials
    from tickcell.client.drawing import Drawing
    from tickcell.client.kept_frames import KeptFrames
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

    def __init__(self, link: AsyncLink, core: SessionCore, *, owns_link: bool = True) -> None:
        """Wraps a session that exists; see `create` and `attach`.

        Args:
          link: the way to its servers.
          core: where it stands.
          owns_link: whether nobody else calls over the link, so that it ends with the session.
        """
        super().__init__(core)
        self._link = link
        self._owns_link = owns_link
        self._pipeline: AsyncPipeline | None = None
        # Those that were closed, and of which something may be left.
        self._ending: list[AsyncPipeline] = []

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
          UsageError: an argument is invalid.
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
          UsageError: it lives, and is not what is wanted; or an argument is invalid.
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
          UsageError: an argument is invalid.
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
        return await self._link.run(self._core.step(frame, resets=resets))

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

    def stream(
        self,
        frames: AsyncIterable[ArrayLike] | Iterable[ArrayLike],
        *,
        max_chunk: int | None = None,
        backlog: int | None = None,
    ) -> AsyncStream:
        """Gives the output of each frame, in order, with up to W steps in flight.

        As `Session.stream`: no frame is lost, whoever leaves the loop early, a task that is
        cancelled too, and streams the same iterator again.

        Args:
          frames: frames as for `step`, from an asynchronous iterable, which a task of its own
            draws from; from any other, which a thread draws from; or a list or an array.
          max_chunk: as for `Session.stream`.
          backlog: as for `Session.stream`.

        Returns:
          What to loop over by `async for`.

        Raises:
          BacklogError, FrameError, UsageError, TickcellError: as for `Session.stream`.
        """

        def begin() -> tuple[Drawing | KeptFrames, AsyncPipeline]:
            core = self._core
            core.check_open()
            kind = AsyncDrawing if hasattr(frames, "__aiter__") else ThreadDrawing
            drawing = core.unanswered.drawing_from(frames, core.encoder(), kind)
            pipeline = drawing.feed(
                lambda: self._open_pipeline(drawing, max_chunk=max_chunk, backlog=backlog),
                can_wait=backlog is None,
            )
            return drawing, pipeline

        return AsyncStream(self._core, begin, self._end)

    def pipeline(self, *, backlog: int) -> AsyncPipeline:
        """Opens the machinery under `stream`, for loops of another shape.

        Until `end_pipeline`, the session's steps go by the pipeline alone. `encode` needs the
        sensors' ranges: see `ask_ranges`.

        Args:
          backlog: as for `stream`.

        Raises:
          UsageError: frames of an earlier loop have no output and nobody has read them.
        """
        self._core.check_open()
        self._core.unanswered.check_none_lost()
        return self._open_pipeline(None, max_chunk=None, backlog=backlog)

    def end_pipeline(self) -> None:
        """Closes the pipeline, if there is one; the session stands where its caller is."""
        if self._pipeline is not None:
            self._end(self._pipeline)

    async def ask_ranges(self) -> None:
        """Asks for the sensors' ranges, if they are not known, and not amid a drive.

        Raises:
          ModelUnknownError: the server does not serve the model now.
        """
        if not self._core.frames.knows_ranges:
            await self.get_model()

    def encode(self, frame: ArrayLike) -> bytes:
        """Returns a frame as a pipeline takes it; as `Session.encode`."""
        return self._core.encode(frame)

    def decode(self, output: bytes) -> NDArray[np.float32]:
        """Returns a pipeline's output, `[O]` where B = 1, else `[B, O]`."""
        return self._core.shapes.output(output)

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
        self.end_pipeline()
        await self._link.run(self._core.delete())
        await self.detach()

    async def detach(self) -> None:
        """Leaves the session on the server, to be attached to again."""
        if self._core.is_closed:
            return
        self.end_pipeline()
        self._core.leave()
        try:
            for pipeline in self._ending:
                await pipeline.closed()
        finally:
            if self._owns_link:
                await self._link.close()

    def _open_pipeline(
        self, drawing: Drawing | KeptFrames | None, *, max_chunk: int | None, backlog: int | None
    ) -> AsyncPipeline:
        core = self._core
        bounds = core.bounds(drawing, max_chunk=max_chunk, backlog=backlog)
        link = self._link.with_patience(bounds.retry_for_s)
        self._pipeline = core.stream = AsyncPipeline(link, core.cargo(drawing, bounds))
        self._pipeline.start()
        return self._pipeline

    def _end(self, pipeline: AsyncPipeline) -> None:
        """Closes a pipeline, if it is the one that is open."""
        if pipeline is not self._pipeline:
            return
        self._core.end_stream(pipeline)
        self._pipeline = None
        pipeline.close()
        self._ending = [each for each in self._ending if not each.is_closed] + [pipeline]


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

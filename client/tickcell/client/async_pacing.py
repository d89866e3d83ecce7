"""A session in a paced loop, for asyncio: `PacedSession` with awaited calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickcell.client.backoff import BACKLOG_S
from tickcell.client.pacing import Pace, PacedLoop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from tickcell.client.async_session import AsyncSession
    from tickcell.client.clock import Clock


class AsyncPacedSession(PacedLoop):
    """A session in a paced loop, for asyncio.

        async with AsyncSession.create("localhost:50061") as session:
            async with AsyncPacedSession(session, rate_hz=50) as paced:
                while driving:
                    output = await paced.tick(read_sensors())
                    act(SAFE if output is None else output)

    Leaving the `async with` block waits for the outputs that are late still, so that every
    frame is applied, unless an exception leaves it, or its task is cancelled.

    A tick that is cancelled is late like any other: its frame is on its way, and the next
    tick sends only the next frame.
    """

    def __init__(
        self,
        session: AsyncSession,
        *,
        rate_hz: float,
        budget_s: float | None = None,
        backlog_s: float = BACKLOG_S,
        clock: Clock | None = None,
    ) -> None:
        """Begins where the session stands, in a running event loop.

        Args and errors: those of `PacedSession`. ModelUnknownError is raised where the
        `async with` block begins.
        """
        pace = Pace.of(rate_hz=rate_hz, budget_s=budget_s, backlog_s=backlog_s)
        self._session = session
        self._pipeline = session.pipeline(backlog=pace.backlog)
        super().__init__(self._pipeline, pace.budget_s, clock)

    async def __aenter__(self) -> AsyncPacedSession:
        try:
            await self._session.ask_ranges()
        except BaseException:
            self._session.end_pipeline()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self._pipeline.run(self._pacer.finish())
        finally:
            self._session.end_pipeline()

    async def tick(self, frame: ArrayLike, due: float | None = None) -> NDArray[np.float32] | None:
        """Sends the tick's frame and waits for its output; as `PacedSession.tick`."""
        data = await self._pipeline.run(self._ticking(lambda: self._session.encode(frame), due))
        return None if data is None else self._session.decode(data)

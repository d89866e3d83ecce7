"""Many sessions of one process, stepped together, for asyncio: `Gateway` with awaited calls."""

from __future__ import annotations

import contextlib
import types
import uuid
from typing import TYPE_CHECKING

from tickcell.client import arguments, unary_calls
from tickcell.client.async_link import AsyncLink
from tickcell.client.async_session import AsyncSession
from tickcell.client.gateway_core import GatewayCore
from tickcell.client.route import DEADLINE_S, RETRY_FOR_S
from tickcell.client.session_core import SessionCore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from tickcell.client import dropout
    from tickcell.client.credentials import Credentials
    from tickcell.client.gateway_core import Result
    from tickcell.client.needs import Operation
    from tickcell.client.resources import SessionInfo


class AsyncGateway:
    """Sessions of many robots, whose frames come together, for asyncio.

        async with AsyncGateway("localhost:50061") as gateway:
            for robot in robots:
                await gateway.create(robot)
            for frames in ticks:  # {"car-7": frame, "car-8": frame}
                for robot, output in (await gateway.step(frames)).items():
                    act(SAFE if isinstance(output, TickcellError) else output)

    As `Gateway`. A `step` that is cancelled may have been applied in part: each session's
    `next_step` is where it is, and the frame of one that stands where it was is due again.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        credentials: Credentials | None = None,
        retry_for_s: float | None = RETRY_FOR_S,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Begins without a session; arguments and errors are those of `Gateway`."""
        self._link = AsyncLink(
            address, credentials=credentials, deadline_s=deadline_s, retry_for_s=retry_for_s
        )
        self._core = GatewayCore(self._link.route)
        self._sessions: dict[str, AsyncSession] = {}

    async def __aenter__(self) -> AsyncGateway:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self.close()
        finally:
            await self.detach()

    @property
    def sessions(self) -> Mapping[str, AsyncSession]:
        """The sessions by their ids, in the order in which they were opened."""
        return types.MappingProxyType(self._sessions)

    async def create(
        self,
        session: str = "",
        *,
        model: str = "",
        model_version: str = "",
        series_count: int = 1,
        window: int = 0,
        idle_ttl_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        on_dropout: dropout.Policy = "raise",
    ) -> AsyncSession:
        """Creates a session; arguments and errors are those of `Session.create`."""
        begin = unary_calls.create_session(
            self._link.route,
            arguments.text("session", session) or str(uuid.uuid4()),
            model=model,
            model_version=model_version,
            series_count=series_count,
            window=window,
            idle_ttl_s=idle_ttl_s,
            labels=labels,
        )
        return await self._opened(begin, on_dropout)

    async def attach(self, session: str, *, on_dropout: dropout.Policy = "raise") -> AsyncSession:
        """Goes on with a session that exists; as `Session.attach`."""
        return await self._opened(unary_calls.get_session(self._link.route, session), on_dropout)

    async def step(self, frames: Mapping[str, ArrayLike]) -> dict[str, Result]:
        """Advances sessions by one frame each, all in one message; as `Gateway.step`."""
        return await self._link.run(self._core.step(frames))

    async def close(self) -> None:
        """Deletes all sessions; where one cannot be, the others are, and then it is raised."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.detach)
            for session in self._sessions.values():
                stack.push_async_callback(session.close)

    async def detach(self) -> None:
        """Leaves the sessions on the server, to be attached to again."""
        for session in self._sessions.values():
            await session.detach()
        self._sessions.clear()
        self._core.sessions.clear()
        await self._link.close()

    async def _opened(
        self, begin: Operation[SessionInfo], on_dropout: dropout.Policy
    ) -> AsyncSession:
        core = await self._link.run(SessionCore.opened(self._link.route, begin, on_dropout))
        self._core.sessions[core.id] = core
        session = self._sessions[core.id] = AsyncSession(self._link, core, owns_link=False)
        return session

"""Many sessions of one process, stepped together: a tick of all of them is one message."""

from __future__ import annotations

import contextlib
import types
import uuid
from typing import TYPE_CHECKING

from tickcell.client import arguments, unary_calls
from tickcell.client.gateway_core import GatewayCore
from tickcell.client.link import Link
from tickcell.client.route import DEADLINE_S, RETRY_FOR_S
from tickcell.client.session import Session
from tickcell.client.session_core import SessionCore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from tickcell.client import dropout
    from tickcell.client.credentials import Credentials
    from tickcell.client.gateway_core import Result
    from tickcell.client.needs import Operation
    from tickcell.client.resources import SessionInfo


class Gateway:
    """Sessions of many robots, whose frames come together.

        with Gateway("localhost:50061") as gateway:
            for robot in robots:
                gateway.create(robot)
            for frames in ticks:  # {"car-7": frame, "car-8": frame}
                for robot, output in gateway.step(frames).items():
                    act(SAFE if isinstance(output, TickcellError) else output)

    Each session is one as `Session` has it, and may be stepped by itself as well. They share
    a connection. Leaving the `with` block deletes them all, unless an exception leaves it.
    Not for several threads at once.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        credentials: Credentials | None = None,
        retry_for_s: float | None = RETRY_FOR_S,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Begins without a session.

        Args:
          address: as for `Session.create`; of several servers, the first is asked first.
          credentials: as for `Session.create`.
          retry_for_s: for how long a message that has no answer is sent again; None for ever.
          deadline_s: how long one try of a message may take; `math.inf` for no deadline.

        Raises:
          UsageError: an argument is invalid.
          TickcellError: an address or the credentials cannot be used.
        """
        self._link = Link(
            address, credentials=credentials, deadline_s=deadline_s, retry_for_s=retry_for_s
        )
        self._core = GatewayCore(self._link.route)
        self._sessions: dict[str, Session] = {}

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.detach()

    @property
    def sessions(self) -> Mapping[str, Session]:
        """The sessions by their ids, in the order in which they were opened."""
        return types.MappingProxyType(self._sessions)

    def create(
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
    ) -> Session:
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
        return self._opened(begin, on_dropout)

    def attach(self, session: str, *, on_dropout: dropout.Policy = "raise") -> Session:
        """Goes on with a session that exists; as `Session.attach`."""
        return self._opened(unary_calls.get_session(self._link.route, session), on_dropout)

    def step(self, frames: Mapping[str, ArrayLike]) -> dict[str, Result]:
        """Advances sessions by one frame each, all in one message.

        A session that is refused, or whose frame has another shape, does not stop the others:
        its error is its result, `next_step` is what it was, and the same frame is due again.
        A message without an answer is sent again for `retry_for_s`; nothing is applied twice.

        Args:
          frames: by the sessions' ids; each as for `Session.step`.

        Returns:
          By id, the outputs as from `Session.step`, or the session's TickcellError.

        Raises:
          UsageError: a session is none of these, or is closed or in a stream; nothing was sent.
        """
        return self._link.run(self._core.step(frames))

    def close(self) -> None:
        """Deletes all sessions; where one cannot be, the others are, and then it is raised."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.detach)
            for session in self._sessions.values():
                stack.callback(session.close)

    def detach(self) -> None:
        """Leaves the sessions on the server, to be attached to again."""
        for session in self._sessions.values():
            session.detach()
        self._sessions.clear()
        self._core.sessions.clear()
        self._link.close()

    def _opened(self, begin: Operation[SessionInfo], on_dropout: dropout.Policy) -> Session:
        core = self._link.run(SessionCore.opened(self._link.route, begin, on_dropout))
        self._core.sessions[core.id] = core
        session = self._sessions[core.id] = Session(self._link, core, owns_link=False)
        return session

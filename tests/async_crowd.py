"""Many agents in one process, each with a paced asyncio session, cancelled and attached again."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random

import numpy as np

from tickcell.client import AsyncPacedSession, AsyncSession
from tickcell.wire import history

# So many sessions are created at once.
_CREATED_AT_ONCE = 20

# All agents begin to tick so long after the last session is created, in seconds.
_START_S = 0.5

_PATIENCE_S = 300.0


@dataclasses.dataclass
class Counts:
    """What happened to all agents.

    Attributes:
      ticks: frames that were sent at a tick.
      late: ticks without an output in time, those among them that were cancelled too.
      cancelled: tasks that were cancelled amid a loop.
      attached: how many of these went on in another session object.
      compared: outputs in time, each of which was that of the plain loop.
    """

    ticks: int = 0
    late: int = 0
    cancelled: int = 0
    attached: int = 0
    compared: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{value:,} {name}" for name, value in dataclasses.asdict(self).items())


@dataclasses.dataclass
class Agent:
    """One agent, from its first tick to its last.

    Attributes:
      address: of the server.
      frames: of its ticks, `[T, F]`.
      expected: what the plain loop makes of them, `[T, O]`.
      rate_hz: of its ticks.
      left_alone_s: after how long it is cancelled, on average.
      chance: when it is cancelled, and how it goes on.
      counts: of all agents.
    """

    address: str
    frames: np.ndarray
    expected: np.ndarray
    rate_hz: float
    left_alone_s: float
    chance: random.Random
    counts: Counts

    async def live(self, session: AsyncSession, start: float) -> None:
        """Drives all ticks, however often it is cancelled, and then looks at what came of it.

        Args:
          session: its session, at step 0.
          start: when its first period begins, by the event loop's time.
        """
        begin = start + self.chance.uniform(0.0, 1 / self.rate_hz)
        while not await self._is_through(session, begin):
            if self.chance.random() < 0.5:
                self.counts.attached += 1
                await session.detach()
                session = await AsyncSession.attach(self.address, session.id)
        await self._check(session)
        await session.close()

    async def _is_through(self, session: AsyncSession, begin: float) -> bool:
        """Drives until the last tick, or until it is cancelled at random."""
        driving = asyncio.create_task(self._drive(session, begin))
        left_alone_s = self.chance.expovariate(1 / self.left_alone_s)
        await asyncio.wait({driving}, timeout=left_alone_s)
        if driving.done():
            await driving
            return True
        driving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await driving
        self.counts.cancelled += 1
        return False

    async def _drive(self, session: AsyncSession, begin: float) -> None:
        """Sends what has no output, and then a frame at each tick."""
        if len(session.unanswered):
            start = session.next_step
            outputs = await session.steps(session.unanswered)
            assert outputs.tobytes() == self.expected[start:][: len(outputs)].tobytes()
        loop = asyncio.get_running_loop()
        paced = AsyncPacedSession(session, rate_hz=self.rate_hz)
        try:
            async with paced:
                # No await is between a tick's frame and the next, so none is sent twice.
                for step in range(session.next_step, len(self.frames)):
                    due = begin + step / self.rate_hz
                    await asyncio.sleep(due - loop.time())
                    self.counts.ticks += 1
                    output = await paced.tick(self.frames[step], due)
                    if output is not None:
                        assert output.tobytes() == self.expected[step].tobytes()
                        self.counts.compared += 1
        finally:
            self.counts.late += paced.late_count

    async def _check(self, session: AsyncSession) -> None:
        """Checks that each frame was applied once and in order, and the last outputs."""
        step_count = len(self.frames)
        assert (session.next_step, len(session.unanswered)) == (step_count, 0)
        chain = history.chain(history.START, self.frames.astype("<f4").tobytes(), step_count)
        assert session.history == chain[-history.SIZE :]
        kept = min(step_count, session.info.window_step_count)
        session.rewind(step_count - kept)
        stored = await session.steps(self.frames[-kept:])
        assert stored.tobytes() == self.expected[-kept:].tobytes()


async def drive(
    address: str,
    recordings: list[tuple[np.ndarray, np.ndarray]],
    *,
    agent_count: int,
    rate_hz: float,
    left_alone_s: float,
    seed: int,
) -> Counts:
    """Lets so many agents live at once.

    Args:
      address: of the server.
      recordings: frames, and what the plain loop makes of them; agents take them in turn.
      agent_count: how many.
      rate_hz: of their ticks.
      left_alone_s: after how long each is cancelled, on average, and again.
      seed: of their chances.
    """
    counts = Counts()
    at_once = asyncio.Semaphore(_CREATED_AT_ONCE)

    async def create() -> AsyncSession:
        async with at_once:
            session = await AsyncSession.create(address)
            await session.get_model()
            return session

    sessions = await asyncio.gather(*(create() for _ in range(agent_count)))
    loop = asyncio.get_running_loop()
    start = loop.time() + _START_S
    # On a machine that is far too slow for them, they would never be through.
    async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as group:
        for index, session in enumerate(sessions):
            agent = Agent(
                address,
                *recordings[index % len(recordings)],
                rate_hz,
                left_alone_s,
                random.Random(f"{seed} {index}"),
                counts,
            )
            group.create_task(agent.live(session, start))
    return counts

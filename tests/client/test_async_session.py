"""What only an asyncio session has: how it is opened and left, and tasks that are cancelled."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from doubles.faulty_proxy import Fault, FaultyProxy
from tickcell.cli.server_process import ServerProcess
from tickcell.client import AsyncSession, errors

# Far longer than any of these takes, and far shorter than for ever.
_LIMIT_S = 120


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a coroutine to its end, in an event loop of its own."""

    async def bounded() -> None:
        async with asyncio.timeout(_LIMIT_S):
            await main()

    asyncio.run(bounded())


def test_a_session_is_opened_by_await_or_by_async_with(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def main() -> None:
        session = await AsyncSession.create(server.address)
        assert (await session.step(frames[0])) == expected[0]
        await session.detach()
        async with AsyncSession.attach(server.address, session.id) as again:
            assert (await again.step(frames[1])) == expected[1]
        with pytest.raises(errors.SessionDeletedError):
            await AsyncSession.attach(server.address, session.id)

    run(main)


def test_what_opened_a_session_opens_no_second_one(server: ServerProcess) -> None:
    async def main() -> None:
        opening = AsyncSession.create(server.address)
        async with opening:
            with pytest.raises(errors.UsageError, match="was opened here already"):
                await opening.__aenter__()

    run(main)


def test_a_block_whose_task_is_cancelled_keeps_its_session(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def main() -> None:
        left: list[AsyncSession] = []

        async def drive() -> None:
            async with AsyncSession.create(server.address) as session:
                left.append(session)
                await session.step(frames[0])
                await asyncio.sleep(_LIMIT_S)

        task = asyncio.create_task(drive())
        while not left or left[0].next_step == 0:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with AsyncSession.attach(server.address, left[0].id) as again:
            assert again.next_step == 1
            assert (await again.step(frames[1])) == expected[1]

    run(main)


def test_many_sessions_of_one_process_step_at_once(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def drive() -> bytes:
        async with AsyncSession.create(server.address) as session:
            return np.stack([await session.step(frame) for frame in frames[:50]]).tobytes()

    async def main() -> None:
        outputs = await asyncio.gather(*(drive() for _ in range(20)))
        assert {*outputs} == {expected[:50].tobytes()}

    run(main)


@pytest.mark.parametrize("seed", range(3))
def test_steps_that_are_cancelled_at_random_lose_and_double_nothing(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray, seed: int
) -> None:
    """The same frame is due again after each, whether the server has applied it or not."""
    chance = random.Random(seed)
    cancelled = 0

    async def main() -> None:
        nonlocal cancelled
        outputs: list[np.ndarray] = []
        async with AsyncSession.create(server.address) as session:
            while len(outputs) < len(frames):
                step = asyncio.create_task(session.step(frames[len(outputs)]))
                if chance.random() < 0.5:
                    # From before it is sent until after it is answered, on a slow machine too.
                    await asyncio.sleep(chance.expovariate(500.0) * chance.choice([0, 1, 4]))
                    step.cancel()
                try:
                    outputs.append(await step)
                except asyncio.CancelledError:
                    cancelled += 1
                assert session.next_step == len(outputs)
        assert np.stack(outputs).tobytes() == expected.tobytes()

    run(main)
    assert cancelled > 10


def test_a_step_whose_time_is_up_may_be_done_again(
    proxy: FaultyProxy, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def main() -> None:
        async with AsyncSession.create(proxy.address) as session:
            await session.step(frames[0])
            proxy.faults["StreamSteps"].append(Fault("stall"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await session.step(frames[1])
            assert session.next_step == 1
            assert (await session.step(frames[1])) == expected[1]

    run(main)


def test_two_steps_at_once_are_one_too_many(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def main() -> None:
        async with AsyncSession.create(server.address) as session:
            first = asyncio.create_task(session.step(frames[0]))
            await asyncio.sleep(0)
            with pytest.raises(errors.UsageError, match="a step is under way"):
                await session.step(frames[1])
            assert (await first) == expected[0]
            assert (await session.step(frames[1])) == expected[1]

    run(main)


@pytest.mark.parametrize("method", ["StepSession", "StreamSteps"])
def test_a_step_goes_on_when_a_call_beside_it_gives_the_connection_up(
    proxy: FaultyProxy, frames: np.ndarray, expected: np.ndarray, method: str
) -> None:
    """No task is cancelled but by whoever cancels it."""

    async def main() -> None:
        async with AsyncSession.create(proxy.address, deadline_s=0.5) as session:
            step_count = 0 if method == "StepSession" else 1
            await session.steps(frames[:step_count])
            proxy.faults[method].append(Fault("stall"))
            call_count = proxy.calls[method]
            step = asyncio.create_task(session.step(frames[step_count]))
            while proxy.calls[method] == call_count:
                await asyncio.sleep(0.001)
            proxy.faults["TouchSession"].append(Fault("lose reply"))
            await session.touch()
            assert (await step) == expected[step_count]

    run(main)


PROGRAM = """
import asyncio, sys, threading
import numpy as np
from tickcell.client import AsyncPacedSession, AsyncSession

async def endless():
    while True:
        yield frame

async def main():
    global frame
    session = await AsyncSession.create(sys.argv[1])
    sensors = (await session.get_model()).sensors
    frame = np.array([(each.min_reading + each.max_reading) / 2 for each in sensors], np.float32)
    for _ in range(3):
        await session.step(frame)
"""

ENDS = {
    "end with a session": ("", 0),
    "exception": ("    raise RuntimeError('mine')", 1),
    "sys.exit": ("    sys.exit(3)", 3),
    "end while a task steps": (
        "    async def drive():\n        while True: await session.step(frame)\n"
        "    task = asyncio.create_task(drive())\n    await asyncio.sleep(0.05)",
        0,
    ),
    "end amid a stream": (
        "    stream = session.stream(endless())\n    await anext(stream)",
        0,
    ),
    "exception amid a stream": (
        "    async for output in session.stream(endless()):\n        raise RuntimeError('mine')",
        1,
    ),
    "end amid a stream of a source that blocks": (
        "    import itertools\n    async for output in session.stream(itertools.chain([frame], "
        "iter(threading.Event().wait, None))):\n        break",
        0,
    ),
    "end amid a paced loop": (
        "    paced = AsyncPacedSession(session, rate_hz=50)\n    await paced.__aenter__()\n"
        "    await paced.tick(frame)",
        0,
    ),
    "end while a task ticks": (
        "    async def drive():\n"
        "        async with AsyncPacedSession(session, rate_hz=50) as paced:\n"
        "            while True: await paced.tick(frame)\n"
        "    task = asyncio.create_task(drive())\n    await asyncio.sleep(0.05)",
        0,
    ),
    "a session that outlives its loop": ("    globals()['session'] = session", 0),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_program_ends(server: ServerProcess, name: str) -> None:
    last, status = ENDS[name]
    done = subprocess.run(
        [sys.executable, "-c", f"{PROGRAM}{last}\n\nasyncio.run(main())\n", server.address],
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_S,
    )
    assert done.returncode == status, done.stderr
    assert "Task" not in done.stderr
    assert "Exception ignored" not in done.stderr

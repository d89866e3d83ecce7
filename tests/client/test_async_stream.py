"""What only asyncio loops have: they are left at any await, by tasks that are cancelled."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest

from doubles.faulty_proxy import Fault, FaultyProxy
from tickcell.cli.server_process import ServerProcess
from tickcell.client import AsyncPacedSession, AsyncSession, errors

_LIMIT_S = 120


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a coroutine to its end, in an event loop of its own."""

    async def bounded() -> None:
        async with asyncio.timeout(_LIMIT_S):
            await main()

    asyncio.run(bounded())


class Sensor:
    """An asynchronous source that counts what was drawn from it, and bears one draw at a time.

    Attributes:
      drawn: how many frames it gave.
    """

    def __init__(self, frames: np.ndarray, period_s: float = 0.0) -> None:
        self._frames = frames
        self._period_s = period_s
        self._is_inside = False
        self.drawn = 0

    def __aiter__(self) -> Sensor:
        return self

    async def __anext__(self) -> np.ndarray:
        assert not self._is_inside, "two tasks in one source"
        self._is_inside = True
        await asyncio.sleep(self._period_s)
        self._is_inside = False
        if self.drawn == len(self._frames):
            raise StopAsyncIteration
        self.drawn += 1
        frame: np.ndarray = self._frames[self.drawn - 1]
        return frame


async def settled(session: AsyncSession) -> int:
    """Waits until no frame is being drawn; returns how many have no output."""
    while session.drawing:
        await asyncio.sleep(0.001)
    return len(session.unanswered)


def test_an_asynchronous_generator_is_streamed(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def source() -> AsyncIterator[np.ndarray]:
        for frame in frames:
            if random.random() < 0.1:
                await asyncio.sleep(0.001)
            yield frame

    async def main() -> None:
        async with AsyncSession.create(server.address) as session:
            outputs = [output async for output in session.stream(source())]
        assert np.stack(outputs).tobytes() == expected.tobytes()

    run(main)


def test_a_loop_that_is_left_has_ended_and_what_it_drew_is_unanswered(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def main() -> None:
        sensor = Sensor(frames)
        outputs: list[np.ndarray] = []
        async with AsyncSession.create(server.address) as session:
            while len(outputs) < len(frames):
                async for output in session.stream(sensor):
                    outputs.append(output)
                    if len(outputs) % 50 == 7:
                        break
                # Nothing is awaited in between.
                assert session.in_flight == 0
                assert session.next_step == len(outputs)
                assert await settled(session) == sensor.drawn - len(outputs)
        assert np.stack(outputs).tobytes() == expected.tobytes()

    run(main)


def test_outputs_do_not_wait_for_the_next_frame(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def main() -> None:
        acted = asyncio.Event()

        async def source() -> AsyncIterator[np.ndarray]:
            for frame in frames[:20]:
                yield frame
                await acted.wait()
                acted.clear()

        outputs = []
        async with AsyncSession.create(server.address) as session:
            async for output in session.stream(source()):
                outputs.append(output)
                acted.set()
        assert np.stack(outputs).tobytes() == expected[:20].tobytes()

    run(main)


@pytest.mark.parametrize("seed", range(3))
def test_loops_whose_tasks_are_cancelled_at_random_lose_no_frame(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray, seed: int
) -> None:
    chance = random.Random(seed)
    cancelled = 0

    async def main() -> None:
        nonlocal cancelled
        sensor = Sensor(frames, period_s=0.0005)
        outputs: list[np.ndarray] = []

        async def loop() -> None:
            async for output in session.stream(sensor, max_chunk=chance.choice([1, 4, None])):
                outputs.append(output)

        async with AsyncSession.create(server.address) as session:
            while True:
                task = asyncio.create_task(loop())
                await asyncio.wait({task}, timeout=chance.expovariate(40.0))
                if task.done():
                    await task
                    break
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                cancelled += 1
                assert session.next_step == len(outputs)
                if chance.random() < 0.5:
                    assert await settled(session) == sensor.drawn - len(outputs)
                if chance.random() < 0.3 and not session.drawing:
                    outputs += list(await session.steps(session.unanswered))
        assert np.stack(outputs).tobytes() == expected.tobytes()

    run(main)
    assert cancelled > 2


@pytest.mark.parametrize("seed", range(2))
def test_ticks_that_are_cancelled_at_random_are_late_and_lose_no_frame(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray, seed: int
) -> None:
    chance = random.Random(seed)

    async def main() -> None:
        cancelled = 0
        async with AsyncSession.create(server.address) as session:
            async with AsyncPacedSession(session, rate_hz=50, budget_s=30.0) as paced:
                for step, frame in enumerate(frames):
                    tick = asyncio.create_task(paced.tick(frame))
                    # It has begun, so its frame is on its way.
                    await asyncio.sleep(0)
                    if chance.random() < 0.3:
                        await asyncio.sleep(chance.expovariate(2000.0))
                        tick.cancel()
                    try:
                        output = await tick
                    except asyncio.CancelledError:
                        cancelled += 1
                    else:
                        assert output is not None
                        assert output.tobytes() == expected[step].tobytes()
            assert paced.tick_count == len(frames)
            assert paced.late_count == paced.late_output_count == cancelled
            assert session.next_step == len(frames)
            session.rewind(len(frames) - 32)
            assert (await session.steps(frames[-32:])).tobytes() == expected[-32:].tobytes()
        assert cancelled > 5

    run(main)


def test_a_paced_loop_whose_task_is_cancelled_leaves_its_frames_unanswered(
    mortal_server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def main() -> None:
        async def drive() -> None:
            async with AsyncPacedSession(session, rate_hz=50, budget_s=0.01) as paced:
                for frame in frames[:50]:
                    ticked.append(await paced.tick(frame))
                await asyncio.sleep(_LIMIT_S)

        ticked: list[np.ndarray | None] = []
        async with AsyncSession.create(mortal_server.address) as session:
            # So that the loop need not ask for its ranges.
            await session.get_model()
            await asyncio.to_thread(mortal_server.kill)
            task = asyncio.create_task(drive())
            while len(ticked) < 50:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ticked == [None] * 50
            assert session.unanswered.tolist() == frames[:50].tolist()
            await asyncio.to_thread(mortal_server.restart)
            outputs = await session.steps(session.unanswered)
        assert outputs.tobytes() == expected[:50].tobytes()

    run(main)


def test_a_stream_whose_reply_is_overdue_is_given_up_and_goes_on(
    proxy: FaultyProxy, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def main() -> None:
        async with AsyncSession.create(proxy.address, deadline_s=0.3) as session:
            proxy.faults["StreamSteps"].append(Fault("stall"))
            outputs = [output async for output in session.stream(frames[:40])]
        assert np.stack(outputs).tobytes() == expected[:40].tobytes()

    run(main)


def test_a_stream_that_is_held_on_to_is_closed_before_other_steps(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def main() -> None:
        async with AsyncSession.create(server.address) as session:
            stream = session.stream(frames)
            assert await anext(stream) == expected[0]
            with pytest.raises(errors.UsageError, match="a stream is open"):
                await session.step(frames[1])
            await stream.aclose()
            assert await session.step(frames[1]) == expected[1]
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    run(main)


def test_an_event_loop_goes_on_while_a_plain_source_blocks(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def main() -> None:
        is_inside, may_go_on = threading.Event(), threading.Event()

        def source() -> Iterator[np.ndarray]:
            for frame in frames[:5]:
                is_inside.set()
                assert may_go_on.wait(_LIMIT_S)
                may_go_on.clear()
                yield frame

        async def let_go_on() -> None:
            while True:
                await asyncio.sleep(0.001)
                if is_inside.is_set():
                    is_inside.clear()
                    may_go_on.set()

        async with AsyncSession.create(server.address) as session:
            letting = asyncio.create_task(let_go_on())
            outputs = [output async for output in session.stream(source())]
            letting.cancel()
        assert np.stack(outputs).tobytes() == expected[:5].tobytes()

    run(main)


def test_a_paced_session_of_a_model_that_is_not_known_leaves_the_session_as_it_was(
    proxy: FaultyProxy, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def main() -> None:
        async with AsyncSession.create(proxy.address, retry_for_s=0.0) as session:
            proxy.faults["GetModel"].append(Fault("refuse", reason="MODEL_UNKNOWN"))
            with pytest.raises(errors.ModelUnknownError):
                async with AsyncPacedSession(session, rate_hz=50):
                    raise AssertionError("it began")
            assert await session.step(frames[0]) == expected[0]

    run(main)

"""An event loop that looks for events for a while, before it sleeps."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from doubles.manual_clock import ManualClock
from tickcell.cli import comparison, server_process
from tickcell.client import Session
from tickcell.model import Bundle
from tickcell.server import polling

BUSY_S = 0.001
LOOK_S = 0.0001
EVENT: list[Any] = [("key", selectors.EVENT_READ)]


class World:
    """What there is to look at, and how it was looked at.

    Attributes:
      looks: the timeout of each look at the system's selector.
      happens_s: in how long from now something happens.
    """

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.looks: list[float | None] = []
        self.happens_s = float("inf")
        self.selector = polling.BusySelector(BUSY_S, lambda: self.clock.now_ns() / 1e9)

    def look(self, _: object, timeout: float | None = None) -> list[Any]:
        self.looks.append(timeout)
        waits_s = float("inf") if timeout is None else timeout
        self.pass_s(LOOK_S if timeout == 0 else min(waits_s, self.happens_s))
        return EVENT if self.happens_s <= 0 else []

    def pass_s(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.happens_s -= seconds

    def select(self, timeout: float | None) -> tuple[list[Any], list[float | None]]:
        """Returns what is found, and the looks at it."""
        self.looks = []
        found = self.selector.select(timeout)
        return found, self.looks


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()
    monkeypatch.setattr(selectors.DefaultSelector, "select", lambda *given: world.look(*given))
    yield world
    world.selector.close()


def test_what_happens_soon_is_found_without_a_sleep(world: World) -> None:
    world.happens_s = BUSY_S / 2
    found, looks = world.select(None)
    assert found == EVENT
    assert set(looks) == {0}


def test_where_nothing_happens_it_sleeps_in_the_end(world: World) -> None:
    world.happens_s = 10.0
    found, looks = world.select(None)
    assert found == EVENT
    assert looks == [0] * (len(looks) - 1) + [None]
    assert len(looks) - 1 == pytest.approx(BUSY_S / LOOK_S, abs=1)


def test_it_stays_awake_after_each_event_and_not_after_a_timer(world: World) -> None:
    world.happens_s = 10.0
    world.select(None)
    world.happens_s = 10.0
    # Woken by a timer, the loop looks again, and again until it is quiet.
    _, after_event = world.select(BUSY_S * 2)
    _, after_timer = world.select(1.0)
    assert len(after_event) > BUSY_S / LOOK_S / 2
    assert after_timer == [0, pytest.approx(1.0, abs=2 * LOOK_S)]


@pytest.mark.parametrize("timeout", [0.0, LOOK_S, BUSY_S / 2, BUSY_S, 3 * BUSY_S])
def test_a_timer_is_never_late_by_more_than_a_look(world: World, timeout: float) -> None:
    begin_ns = world.clock.now_ns()
    found, looks = world.select(timeout)
    assert found == []
    assert looks[0] == 0
    assert (world.clock.now_ns() - begin_ns) / 1e9 <= timeout + 2 * LOOK_S


def test_without_a_timeout_of_its_own_a_loop_only_looks_once(world: World) -> None:
    assert world.select(0) == ([], [0])


@pytest.mark.parametrize("busy_poll_us", [0.0, 1000.0])
def test_a_loop_does_what_any_loop_does(busy_poll_us: float) -> None:
    async def main() -> list[str]:
        loop, heard = asyncio.get_running_loop(), []
        came = asyncio.Event()

        def hear(text: str) -> Callable[[], None]:
            return lambda: heard.append(text)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()
            await writer.wait_closed()
            came.set()

        loop.call_later(0.02, hear("timer"))
        server = await asyncio.start_server(answer, "localhost", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("localhost", port)
            # By then it sleeps, for longer than it is busy.
            await asyncio.sleep(0.005)
            writer.write(b"socket\n")
            heard.append((await reader.readline()).decode().strip())
            writer.close()
            await writer.wait_closed()
            await came.wait()
        await asyncio.to_thread(hear("thread"))
        await asyncio.sleep(0.03)
        return heard

    with asyncio.Runner(loop_factory=lambda: polling.loop(busy_poll_us)) as runner:
        assert sorted(runner.run(main())) == ["socket", "thread", "timer"]


def test_a_server_that_polls_gives_the_outputs_of_the_loop_and_drains() -> None:
    bundle = Bundle.load()
    frames = bundle.golden.frames[:60]
    with (
        server_process.temporary("--busy-poll-us", "500") as server,
        Session.create(server.address) as session,
    ):
        outputs = [session.step(frame).tobytes() for frame in frames[:20]]
        outputs += [output.tobytes() for output in session.stream(frames[20:40])]
        outputs.append(session.steps(frames[40:]).tobytes())
    assert b"".join(outputs) == comparison.loop(bundle.cell(), frames).tobytes()

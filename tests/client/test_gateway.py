"""A gateway's sessions: each has the outputs of the plain loop, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doubles.awaited_session import AwaitedSession, wait_for
from doubles.faulty_proxy import Fault, FaultyProxy
from doubles.restorable_server import RestorableServer
from tickcell.cli import server_process
from tickcell.cli.server_process import ServerProcess
from tickcell.client import AsyncGateway, Gateway, Session, errors


class AwaitedGateway:
    """Does what an `AsyncGateway` does, and waits for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._gateway = AsyncGateway(*args, **kwargs)

    def __enter__(self) -> AwaitedGateway:
        return self

    def __exit__(self, *details: Any) -> None:
        wait_for(self._gateway.__aexit__(*details))

    def create(self, *args: Any, **kwargs: Any) -> AwaitedSession:
        return AwaitedSession(wait_for(self._gateway.create(*args, **kwargs)))

    def attach(self, *args: Any, **kwargs: Any) -> AwaitedSession:
        return AwaitedSession(wait_for(self._gateway.attach(*args, **kwargs)))

    def step(self, frames: Any) -> Any:
        return wait_for(self._gateway.step(frames))

    def close(self) -> None:
        wait_for(self._gateway.close())

    @property
    def sessions(self) -> Any:
        return self._gateway.sessions


@pytest.fixture(params=[Gateway, AwaitedGateway], ids=["threads", "asyncio"])
def gateways(request: pytest.FixtureRequest) -> type[Gateway]:
    """Makes gateways with threads, or with asyncio."""
    driven: type[Gateway] = request.param
    return driven


def ids(count: int) -> list[str]:
    return [f"car-{number}-{random.randrange(10**9)}" for number in range(count)]


def output(result: np.ndarray | errors.TickcellError) -> np.ndarray:
    assert isinstance(result, np.ndarray), result
    return result


def test_each_session_has_the_outputs_of_the_loop(
    gateways: type[Gateway], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    """Each begins at another frame."""
    cars = ids(20)
    outputs: dict[str, list[np.ndarray]] = {car: [] for car in cars}
    with gateways(server.address) as gateway:
        for car in cars:
            gateway.create(car)
        for tick in range(60):
            # One more joins at each tick.
            results = gateway.step(dict.fromkeys(cars[: 1 + tick], frames[tick]))
            assert [*results] == cars[: 1 + tick]
            for car, result in results.items():
                outputs[car].append(output(result))
    for began, car in enumerate(cars):
        with Session.create(server.address) as alone:
            assert np.stack(outputs[car]).tobytes() == alone.steps(frames[began:60]).tobytes()
    assert np.stack(outputs[cars[0]]).tobytes() == expected[:60].tobytes()


def test_a_session_that_is_refused_does_not_stop_the_others(
    gateways: type[Gateway], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    first, second, third = ids(3)
    with gateways(server.address) as gateway:
        for car in (first, second, third):
            gateway.create(car)
        results = gateway.step({first: frames[0], second: frames[0] * np.nan, third: [1.0, 2.0]})
        assert output(results[first]) == expected[0]
        assert isinstance(results[second], errors.FrameNotFiniteError)
        assert isinstance(results[third], errors.FrameShapeError)
        steps = [gateway.sessions[car].next_step for car in (first, second, third)]
        assert steps == [1, 0, 0]
        results = gateway.step(
            {car: frames[step] for car, step in zip(results, steps, strict=True)}
        )
        assert [output(each).item() for each in results.values()] == [
            expected[1],
            *[expected[0]] * 2,
        ]


def test_a_session_that_ended_is_told_and_the_others_go_on(
    gateways: type[Gateway], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    first, second = ids(2)
    with gateways(server.address) as gateway:
        gateway.create(first)
        gateway.create(second)
        gateway.step(dict.fromkeys([first, second], frames[0]))
        Session.attach(server.address, second).close()
        results = gateway.step(dict.fromkeys([first, second], frames[1]))
        assert output(results[first]) == expected[1]
        assert isinstance(results[second], errors.SessionDeletedError)


def test_two_writers_are_found_out(
    gateways: type[Gateway], server: ServerProcess, frames: np.ndarray
) -> None:
    (car,) = ids(1)
    with gateways(server.address) as gateway:
        session = gateway.create(car)
        with contextlib.closing(Session.attach(server.address, car)) as other:
            other.step(frames[5])
            results = gateway.step({car: frames[0]})
            assert isinstance(results[car], errors.StepConflictError)
            assert session.next_step == 0


@pytest.mark.parametrize(
    "fault",
    [Fault("lose request"), Fault("lose reply"), Fault("stall")],
    ids=["lose request", "lose reply", "stall"],
)
def test_a_message_without_an_answer_is_sent_again_and_nothing_is_applied_twice(
    gateways: type[Gateway],
    proxy: FaultyProxy,
    frames: np.ndarray,
    expected: np.ndarray,
    fault: Fault,
) -> None:
    cars, outputs = ids(3), []
    with gateways(proxy.address, deadline_s=0.5) as gateway:
        for car in cars:
            gateway.create(car)
        for tick in range(10):
            if tick % 3 == 1:
                proxy.faults["StepSessions"].append(fault)
            results = gateway.step(dict.fromkeys(cars, frames[tick]))
            outputs.append([output(result) for result in results.values()])
    for each in range(3):
        own = np.stack([tick[each] for tick in outputs])
        assert own.tobytes() == expected[:10].tobytes()


def test_an_outage_is_each_session_s_error_and_the_same_frames_are_due_again(
    gateways: type[Gateway], proxy: FaultyProxy, frames: np.ndarray, expected: np.ndarray
) -> None:
    cars = ids(2)
    with gateways(proxy.address, retry_for_s=0) as gateway:
        for car in cars:
            gateway.create(car)
        proxy.faults["StepSessions"].append(Fault("lose reply"))
        results = gateway.step(dict.fromkeys(cars, frames[0]))
        assert {type(result) for result in results.values()} == {errors.UnavailableError}
        assert [session.next_step for session in gateway.sessions.values()] == [0, 0]
        results = gateway.step(dict.fromkeys(cars, frames[0]))
        assert {output(result).item() for result in results.values()} == {expected[0].item()}


def test_a_session_may_be_stepped_by_itself_in_between(
    gateways: type[Gateway], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    (car,) = ids(1)
    outputs: list[np.ndarray] = []
    with gateways(server.address) as gateway:
        session = gateway.create(car)
        for start in range(0, 60, 6):
            outputs.append(output(gateway.step({car: frames[start]})[car]))
            outputs += [session.step(frames[start + 1]), session.step(frames[start + 2])]
            outputs += [*session.steps(frames[start + 3 : start + 6])]
    assert np.stack(outputs).tobytes() == expected[:60].tobytes()


def test_series_and_readings_that_drop_out_are_what_they_are_in_a_session(
    gateways: type[Gateway], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    first, second = ids(2)
    pairs = np.stack([frames[:20], frames[20:40]], axis=1)
    bad = frames[:20].copy()
    bad[5:8, 3] = np.nan
    got: list[list[np.ndarray]] = [[], []]
    with gateways(server.address) as gateway:
        gateway.create(first, series_count=2)
        held = gateway.create(second, on_dropout="hold")
        for tick in range(20):
            results = gateway.step({first: pairs[tick], second: bad[tick]})
            got[0].append(output(results[first]))
            got[1].append(output(results[second]))
        assert sum(held.dropout_counts.values()) == 3
    assert np.stack(got[0])[:, 0].tobytes() == expected[:20].tobytes()
    with Session.create(server.address, on_dropout="hold") as alone:
        assert np.stack(got[1]).tobytes() == np.stack([*map(alone.step, bad)]).tobytes()


@pytest.fixture(scope="module")
def narrow_server() -> Iterator[ServerProcess]:
    """A server that takes messages of eight rows."""
    with server_process.temporary("--max-request-rows", "8") as process:
        yield process


def test_more_sessions_than_a_message_holds_go_in_several(
    gateways: type[Gateway], narrow_server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    cars = ids(21)
    with gateways(narrow_server.address) as gateway:
        for car in cars:
            gateway.create(car, window=8)
        for tick in range(5):
            results = gateway.step(dict.fromkeys(cars, frames[tick]))
            assert {output(each).item() for each in results.values()} == {expected[tick].item()}


def test_a_session_that_is_none_of_the_gateway_s_is_refused_before_anything_is_sent(
    gateways: type[Gateway], server: ServerProcess, frames: np.ndarray
) -> None:
    (car,) = ids(1)
    with gateways(server.address) as gateway:
        session = gateway.create(car)
        with pytest.raises(errors.UsageError, match="is not a session of this gateway"):
            gateway.step({car: frames[0], "truck": frames[0]})
        assert session.next_step == 0
        session.detach()
        with pytest.raises(errors.UsageError, match="is closed"):
            gateway.step({car: frames[0]})
        gateway.attach(car)
        assert isinstance(gateway.step({car: frames[0]})[car], np.ndarray)
        assert gateway.step({}) == {}


def test_leaving_the_block_deletes_the_sessions_and_an_exception_keeps_them(
    gateways: type[Gateway], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    cars = ids(3)

    def drive() -> None:
        with gateways(server.address) as gateway:
            for car in cars:
                gateway.create(car)
            gateway.step(dict.fromkeys(cars, frames[0]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        drive()
    with gateways(server.address) as gateway:
        for car in cars:
            assert gateway.attach(car).next_step == 1
        results = gateway.step(dict.fromkeys(cars, frames[1]))
        assert {output(each).item() for each in results.values()} == {expected[1].item()}
    for car in cars:
        with pytest.raises(errors.SessionDeletedError):
            Session.attach(server.address, car)


def test_a_store_that_was_put_back_is_brought_to_where_each_session_was(
    gateways: type[Gateway],
    tmp_path: Path,
    frames: np.ndarray,
    expected: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A slow machine takes longer to put a store back than frames are kept for.
    monkeypatch.setattr("tickcell.client.recall.KEPT_S", 120.0)
    cars, outputs = ids(3), []
    with (
        RestorableServer(tmp_path) as server,
        gateways(server.address, retry_for_s=20) as gateway,
    ):
        for car in cars:
            gateway.create(car, window=4)
        for tick in range(30):
            if tick == 10:
                server.back_up()
            if tick == 20:
                server.put_back()
            # The last of them pauses in between.
            due = cars if not 12 <= tick < 25 else cars[:2]
            frames_now = {car: frames[gateway.sessions[car].next_step] for car in due}
            outputs.append(gateway.step(frames_now))
        assert [gateway.sessions[car].rollback_count for car in cars] == [1, 1, 1]
    for car in cars:
        own = np.stack([output(each[car]) for each in outputs if car in each])
        assert own.tobytes() == expected[: len(own)].tobytes()


def test_servers_that_are_killed_one_after_the_other_lose_nothing(
    gateways: type[Gateway], tmp_path: Path, frames: np.ndarray, expected: np.ndarray
) -> None:
    cars, outputs = ids(3), []
    with (
        ServerProcess(tmp_path) as one,
        ServerProcess(tmp_path, listen="127.0.0.1:0") as other,
        gateways([one.address, other.address], retry_for_s=20) as gateway,
    ):
        for car in cars:
            gateway.create(car)
        for tick in range(30):
            if tick == 10:
                one.kill()
            if tick == 20:
                one.restart()
                other.kill()
            results = gateway.step(dict.fromkeys(cars, frames[tick]))
            outputs.append([output(each) for each in results.values()])
    for each in range(3):
        assert np.stack([tick[each] for tick in outputs]).tobytes() == expected[:30].tobytes()


@pytest.mark.parametrize("seed", range(2))
def test_steps_that_are_cancelled_at_random_lose_and_double_nothing(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray, seed: int
) -> None:
    chance = random.Random(seed)
    cars = ids(4)
    outputs: list[list[float]] = []
    cancelled = 0

    async def main() -> None:
        nonlocal cancelled
        async with AsyncGateway(server.address) as gateway:
            for car in cars:
                await gateway.create(car)
            while len(outputs) < 100:
                step = asyncio.create_task(gateway.step(dict.fromkeys(cars, frames[len(outputs)])))
                if chance.random() < 0.5:
                    await asyncio.sleep(chance.expovariate(500.0) * chance.choice([0, 1, 4]))
                    step.cancel()
                try:
                    results = await step
                except asyncio.CancelledError:
                    cancelled += 1
                else:
                    outputs.append([output(each).item() for each in results.values()])
                assert {each.next_step for each in gateway.sessions.values()} == {len(outputs)}

    asyncio.run(main())
    assert cancelled > 5
    assert outputs == [[value.item()] * 4 for value in expected[:100]]

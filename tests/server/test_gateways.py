"""Gateways that send a tick of many robots in one message, to servers that are killed, or end."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures

import grpc
import numpy as np
import pytest

from databases import Databases
from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from server.serve_process import ServeProcess
from tickcell import wire
from tickcell.conformance.caller import PATIENCE_S, Caller, Refused, TogetherPath, refused_for
from tickcell.model import Bundle
from tickcell.server.pace import Pace
from tickcell.server.store import EmbeddedStore, MemoryStore, NetworkStore, SqliteStore
from tickcell.v1 import session_service_pb2 as pb

STEPS = 4


class Fleet:
    """The sessions of many robots, each on a recording of its own.

    Attributes:
      sessions: of the robots.
    """

    def __init__(self, caller: Caller, bundle: Bundle, count: int) -> None:
        self._bundle = bundle
        self.sessions = [caller.create() for _ in range(count)]
        self._first_frames = [7 * index % len(bundle.golden.frames) for index in range(count)]

    def frame(self, robot: int, step: int) -> np.ndarray:
        frames = self._bundle.golden.frames
        frame: np.ndarray = frames[(self._first_frames[robot] + step) % len(frames)]
        return frame

    def requests(self, step: int, robots: Sequence[int]) -> list[bytes]:
        """Returns the encoded request for a step of each robot."""
        return [
            wire.StreamStepsRequest(
                session=self.sessions[robot].id,
                generation=self.sessions[robot].generation,
                first_step=step,
                step_count=1,
                frames=self.frame(robot, step).astype("<f4").tobytes(),
            ).SerializeToString()
            for robot in robots
        ]

    def loops(self, step_count: int) -> list[list[bytes]]:
        """Returns what the plain loop gives, by step and robot."""
        cell = self._bundle.cell()
        states = [cell.initial_state() for _ in self.sessions]
        outputs: list[list[bytes]] = []
        for step in range(step_count):
            outputs.append([])
            for robot in range(len(states)):
                output, states[robot] = cell.step(self.frame(robot, step), states[robot])
                outputs[-1].append(output.tobytes())
        return outputs


def outputs_of(responses: Sequence[pb.StreamStepsResponse]) -> list[bytes]:
    """Returns the outputs of each response; a refusal is a failure."""
    for response in responses:
        assert not response.HasField("error"), response.error.message
    return [np.array(response.outputs, "<f4").tobytes() for response in responses]


def sent(address: str, requests: Sequence[bytes]) -> list[pb.StreamStepsResponse]:
    with Caller(address) as caller, TogetherPath(caller) as path:
        return path.send_all(requests)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: pathlib.Path, databases: Databases) -> str:
    """Where a store lies, or is to lie."""
    return databases.new() if request.param == "postgresql" else str(tmp_path / "store")


def test_256_sessions_have_the_outputs_of_their_loops_whenever_the_server_is_killed(
    place: str, bundle: Bundle
) -> None:
    arguments = ("--listen", "localhost:0", "--store", place)
    chance = random.Random(13)
    robots = range(256)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ServeProcess(*arguments))
        with Caller(server.address) as caller:
            fleet = Fleet(caller, bundle, len(robots))
        expected = fleet.loops(STEPS)
        pool = stack.enter_context(futures.ThreadPoolExecutor(1))
        took_s = 0.0
        for step in range(STEPS):
            requests = fleet.requests(step, robots)
            if step % 3 == 2:
                # At any moment from before the message comes to behind its answer.
                sending = pool.submit(sent, server.address, requests)
                time.sleep(chance.uniform(0.0, 2.0 * took_s))
                server.end(signal.SIGKILL)
                # It was answered, or its connection is gone.
                with contextlib.suppress(grpc.RpcError):
                    assert outputs_of(sending.result()) == expected[step]
                server = stack.enter_context(ServeProcess(*arguments))
            begin = time.monotonic()
            responses = sent(server.address, requests)
            took_s = time.monotonic() - begin
            assert outputs_of(responses) == expected[step]
            if step == 1:
                server.end(signal.SIGKILL)
                server = stack.enter_context(ServeProcess(*arguments))
                assert sent(server.address, requests) == responses
        with Caller(server.address) as caller:
            assert {caller.get(each.id).next_step for each in fleet.sessions} == {STEPS}


def test_two_gateways_at_two_servers_share_sessions(place: str, bundle: Bundle) -> None:
    arguments = ("--listen", "localhost:0", "--store", place)
    own = (range(32), range(16, 48))
    with ServeProcess(*arguments) as first, ServeProcess(*arguments) as second:
        with Caller(first.address) as caller:
            fleet = Fleet(caller, bundle, 48)
        expected = fleet.loops(STEPS)

        def run(address: str, robots: Sequence[int]) -> None:
            with Caller(address) as caller, TogetherPath(caller) as path:
                for step in range(STEPS):
                    outputs = outputs_of(path.send_all(fleet.requests(step, robots)))
                    assert outputs == [expected[step][robot] for robot in robots]

        with futures.ThreadPoolExecutor(2) as pool:
            running = [
                pool.submit(run, server.address, robots)
                for server, robots in zip((first, second), own, strict=True)
            ]
            for each in running:
                each.result()
        with Caller(second.address) as caller:
            assert {caller.get(each.id).next_step for each in fleet.sessions} == {STEPS}


def test_drain_answers_each_message_whole_or_refuses_it_whole(
    tmp_path: pathlib.Path, bundle: Bundle
) -> None:
    arguments = ("--listen", "localhost:0", "--store", str(tmp_path / "store"))
    begun = threading.Barrier(5)
    robots = range(64)

    def run(address: str, fleet: Fleet) -> tuple[int, Exception]:
        """Ticks until that fails; returns how many ticks were answered, and the failure."""
        step = 0
        with Caller(address) as caller, TogetherPath(caller) as path:
            while True:
                try:
                    outputs_of(path.send_all(fleet.requests(step, robots)))
                except (Refused, grpc.RpcError) as error:
                    return step, error
                step += 1
                if step == 2:
                    begun.wait(PATIENCE_S)

    with ServeProcess(*arguments) as server, futures.ThreadPoolExecutor(4) as pool:
        with Caller(server.address) as caller:
            fleets = [Fleet(caller, bundle, len(robots)) for _ in range(4)]
        running = [pool.submit(run, server.address, fleet) for fleet in fleets]
        begun.wait(PATIENCE_S)
        server.send(signal.SIGTERM)
        ends = [each.result(PATIENCE_S) for each in running]
        status, log = server.wait()
    assert (status, "Traceback" in log) == (0, False)
    with (
        ServeProcess(*arguments) as server,
        Caller(server.address) as caller,
        TogetherPath(caller) as path,
    ):
        for fleet, (answered, error) in zip(fleets, ends, strict=True):
            if isinstance(error, Refused):
                error.hold("DRAINING")
                assert {caller.get(each.id).next_step for each in fleet.sessions} == {answered}
            # Else it came when the server was about to be gone, and nobody said anything: the
            # same message tells.
            responses = path.send_all(fleet.requests(answered, robots))
            assert outputs_of(responses) == fleet.loops(answered + 1)[answered]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def records(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, databases: Databases
) -> Iterator[EmbeddedStore | NetworkStore]:
    if request.param == "postgresql":
        with contextlib.closing(databases.store()) as store:
            yield store.awaited
        return
    opened: EmbeddedStore = (
        MemoryStore() if request.param == "memory" else SqliteStore.open(tmp_path / "store")
    )
    yield opened
    opened.close()


def counted(caller: Caller, count: int) -> list[pb.Session]:
    return [caller.create() for _ in range(count)]


def counting(sessions: Sequence[pb.Session], step: int) -> list[bytes]:
    """Returns the encoded request for a step of each session of a counting cell."""
    return [
        pb.StreamStepsRequest(
            session=session.id,
            generation=session.generation,
            first_step=step,
            step_count=1,
            frames=[float(index % 500)],
        ).SerializeToString()
        for index, session in enumerate(sessions)
    ]


def commits(server: InProcessServer, caller: Caller) -> int:
    """Returns how many commits the observer has heard of, once it has heard of all."""
    with refused_for("SESSION_UNKNOWN"):
        caller.get("nobody")
    return sum(server.observer.commit.counts)


def test_message_is_one_commit_on_every_store(records: EmbeddedStore | NetworkStore) -> None:
    # Whatever this machine is busy with.
    model = dataclasses.replace(served(CountingCell()), pace=Pace(1e-6, 1e-7, is_slow=False))
    with (
        InProcessServer([model], records) as server,
        Caller(server.address) as caller,
        TogetherPath(caller) as path,
    ):
        sessions = counted(caller, 256)
        before = commits(server, caller)
        for step in range(4):
            responses = path.send_all(counting(sessions, step))
            assert [[*each.outputs] for each in responses] == [
                [index + 1000.0 * step] for index in range(256)
            ]
        assert commits(server, caller) - before == 4


def test_requests_of_a_message_are_counted_like_those_of_a_stream() -> None:
    with (
        InProcessServer([served(CountingCell())]) as server,
        Caller(server.address) as caller,
        TogetherPath(caller) as path,
    ):
        sessions = counted(caller, 5)
        path.send_all(counting(sessions[:4], 0))
        path.send_all([*counting(sessions[:2], 0), *counting(sessions[2:], 1), b"\xff"])
        path.send_all([*counting(sessions[:1], 1), *counting(sessions[:1], 1)])
        with refused_for("ARGUMENT_INVALID"):
            path.send_all([])
        (counts,) = server.observer.models
        assert (counts.applied, counts.repeated) == (4 + 2 + 1, 2)
        refused = {reason: n for reason, n in server.observer.refused_counts.items() if n}
        assert refused == {"STEP_GAP": 1, "MALFORMED": 1, "ARGUMENT_INVALID": 2}


def test_flood_of_empty_requests_is_refused_at_once() -> None:
    with (
        InProcessServer([served(CountingCell())]) as server,
        Caller(server.address) as caller,
        TogetherPath(caller) as path,
    ):
        (session,) = counted(caller, 1)
        with refused_for("ARGUMENT_INVALID") as metadata:
            path.send_all([b""] * 500_000)
        assert (metadata["got"], metadata["max_request_rows"]) == ("500000", "8192")
        with refused_for("ARGUMENT_INVALID") as metadata:
            path.send_all([b""] * 8000)
        assert metadata["max_message_bytes"] == str(4 * 1024 * 1024)
        assert outputs_of(path.send_all(counting([session], 0)))


def test_long_message_is_answered_in_order() -> None:
    with (
        InProcessServer([served(CountingCell())]) as server,
        Caller(server.address) as caller,
        TogetherPath(caller) as path,
    ):
        sessions = counted(caller, 1000)
        order = random.Random(5).sample(range(1000), 1000)
        requests = counting(sessions, 0)
        responses = path.send_all([requests[index] for index in order])
        assert [each.session for each in responses] == [sessions[index].id for index in order]
        assert [[*each.outputs] for each in responses] == [[float(index % 500)] for index in order]

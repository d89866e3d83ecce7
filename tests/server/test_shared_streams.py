"""Hundreds of sessions on shared streams, in any order, among callers that do everything wrong.

The readings say whose they are and the outputs say which step it was, so that a step
that was lost, doubled or mixed up would show as a number.
"""

from __future__ import annotations

import collections
import contextlib
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import numpy as np
import pytest

from doubles.counting_cell import counting_outputs
from doubles.in_process_server import InProcessServer, served
from doubles.moody_cell import GIVES_NAN, LEAVES_NAN, RAISES, MoodyCell
from tickcell.conformance.caller import PATIENCE_S, Caller, Refused, StreamPath, UnaryPath
from tickcell.server.store import SqliteStore
from tickcell.v1 import session_service_pb2 as pb

STREAMS = 20
SESSIONS_PER_STREAM = 10
REQUESTS_PER_STREAM = 250
# Requests that a stream may have unanswered.
AHEAD = 6


@pytest.fixture(scope="module")
def cell() -> MoodyCell:
    return MoodyCell()


@pytest.fixture(scope="module")
def address(cell: MoodyCell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    records = SqliteStore.open(tmp_path_factory.mktemp("isolation") / "store")
    with InProcessServer([served(cell)], records) as server:
        yield server.address
    records.close()


def readings(number: int, first_step: int, steps: int) -> np.ndarray:
    """Returns a session's frames, `[T]`: its number, and its step once more in the fraction."""
    return np.float32(number) + np.arange(first_step, first_step + steps, dtype=np.float32) / 512


def request_of(session: pb.Session, first_step: int, frames: np.ndarray) -> pb.StreamStepsRequest:
    return pb.StreamStepsRequest(
        session=session.id,
        generation=session.generation,
        first_step=first_step,
        step_count=len(frames),
        frames=frames.tolist(),
    )


def hold(answer: pb.StreamStepsResponse, sent: pb.StreamStepsRequest) -> None:
    """Holds an answer to what was sent, by the numbers."""
    assert (answer.session, answer.first_step, answer.step_count) == (
        sent.session,
        sent.first_step,
        sent.step_count,
    )
    expected = counting_outputs(np.array(sent.frames, np.float32), sent.first_step)
    np.testing.assert_array_equal(np.array(answer.outputs, np.float32), expected)


def run_stream(address: str, index: int) -> int:
    """Steps some sessions over one stream in random order; returns how many steps there were."""
    chance = random.Random(index)
    with Caller(address) as caller, StreamPath(caller) as stream:
        numbers = range(index * SESSIONS_PER_STREAM, (index + 1) * SESSIONS_PER_STREAM)
        sessions = {number: caller.create(session=f"car-{number}") for number in numbers}
        next_steps = dict.fromkeys(numbers, 0)
        unanswered: collections.deque[pb.StreamStepsRequest] = collections.deque()
        for _ in range(REQUESTS_PER_STREAM):
            number = chance.choice(numbers)
            step = next_steps[number]
            # Now and then from before what it has, as after a reconnect.
            first = max(0, step - chance.choice([0, 0, 0, 1, 5]))
            count = step - first + chance.randint(1, 4)
            next_steps[number] = max(step, first + count)
            sent = request_of(sessions[number], first, readings(number, first, count))
            stream.post(sent.SerializeToString())
            unanswered.append(sent)
            while len(unanswered) > chance.randint(0, AHEAD):
                hold(stream.receive(), unanswered.popleft())
        while unanswered:
            hold(stream.receive(), unanswered.popleft())
        for number, session in sessions.items():
            assert caller.get(session.id).next_step == next_steps[number]
        return sum(next_steps.values())


def send_nonsense(caller: Caller) -> None:
    with StreamPath(caller) as stream:
        for encoded in (b"\xff", b"\x0a\x02\xc3\x28", b"", b"\x2a\x03abc"):
            with pytest.raises(Refused):
                stream.send(encoded)


def upset_the_cell(caller: Caller) -> None:
    session = caller.create()
    with StreamPath(caller) as stream:
        for reading in (RAISES, GIVES_NAN, LEAVES_NAN, float("nan"), 1e9):
            frames = np.array([1.0, reading], np.float32)
            with pytest.raises(Refused):
                stream.send(request_of(session, 0, frames).SerializeToString())


def leave_in_the_midst(caller: Caller) -> None:
    session = caller.create()
    with StreamPath(caller) as stream:
        for step in range(20):
            frames = np.array([1.0], np.float32)
            stream.post(request_of(session, step, frames).SerializeToString())


def run_out_of_time(caller: Caller) -> None:
    session = caller.create()
    request = pb.StepSessionRequest(session=session.id, step_count=1, frames=[1.0])
    for timeout in (0.0001, 0.001, 0.002):
        with contextlib.suppress(grpc.RpcError):
            caller.sessions.StepSession(request, timeout=timeout)


def cancel_at_once(caller: Caller) -> None:
    session = caller.create()
    request = pb.StepSessionRequest(session=session.id, step_count=1, frames=[1.0])
    for _ in range(5):
        caller.sessions.StepSession.future(request).cancel()


def begin_and_end(caller: Caller) -> None:
    session = caller.create()
    reset = caller.reset(session.id, session.generation, str(uuid.uuid4()))
    with UnaryPath(caller) as path, pytest.raises(Refused):
        path.send(request_of(session, 0, np.zeros(1, np.float32)).SerializeToString())
    caller.delete(reset.id, reset.generation)


NUISANCES: tuple[Callable[[Caller], None], ...] = (
    send_nonsense,
    upset_the_cell,
    leave_in_the_midst,
    run_out_of_time,
    cancel_at_once,
    begin_and_end,
)


@pytest.mark.lengthy
def test_sessions_on_shared_streams_keep_to_themselves_whatever_others_do(
    address: str, cell: MoodyCell
) -> None:
    done = threading.Event()

    def be_a_nuisance() -> int:
        count = 0
        with Caller(address) as caller:
            while not done.is_set() or count < len(NUISANCES):
                NUISANCES[count % len(NUISANCES)](caller)
                count += 1
        return count

    with futures.ThreadPoolExecutor(STREAMS + 1) as pool:
        nuisance = pool.submit(be_a_nuisance)
        streams = [pool.submit(run_stream, address, index) for index in range(STREAMS)]
        steps = 0
        try:
            for stream in streams:
                steps += stream.result(4 * PATIENCE_S)
        finally:
            done.set()
    together = sum(count for count in cell.row_counts if count > 1)
    print(f"{steps} steps, {together} of them together, {nuisance.result()} nuisances")
    assert steps > STREAMS * REQUESTS_PER_STREAM
    # Else nothing was shown of those that share a turn.
    assert together > steps // 10


def test_step_whose_caller_gave_up_is_found_when_it_is_sent_again(address: str) -> None:
    with Caller(address) as caller, UnaryPath(caller) as path:
        session = caller.create()
        for step in range(50):
            sent = request_of(session, step, readings(1, step, 1))
            caller.sessions.StepSession.future(sent).cancel()
            answer = path.send(sent.SerializeToString())
            np.testing.assert_array_equal(
                np.array(answer.outputs, np.float32), counting_outputs(readings(1, step, 1), step)
            )
        assert caller.get(session.id).next_step == 50

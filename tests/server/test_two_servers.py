"""Two servers on one store serve the same sessions; two writers on one session cannot both win."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from doubles.counting_cell import CountingCell, counting_outputs
from doubles.in_process_server import InProcessServer, served
from doubles.looped import looped
from server.store_process import StoreProcess
from tickcell.cli.server_process import ServerProcess
from tickcell.conformance.caller import (
    PATHS,
    PATIENCE_S,
    Caller,
    Path,
    Refused,
    StreamPath,
)
from tickcell.conformance.subject import WINDOW, Subject
from tickcell.model import Bundle
from tickcell.server.store import SqliteStore
from tickcell.v1 import session_service_pb2 as pb

STEPS = 150


class Pair(NamedTuple):
    """Two servers on one store, and a connection to each."""

    addresses: tuple[str, str]
    callers: tuple[Caller, Caller]
    pids: tuple[int, int]
    store: pathlib.Path


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Two processes."""
    with contextlib.ExitStack() as stack:
        # A socket's path must be short.
        directory = pathlib.Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="tickcell-"))
        )
        first = stack.enter_context(ServerProcess(directory))
        second = stack.enter_context(
            ServerProcess(directory, "--store", str(first.store), listen="localhost:0")
        )
        addresses = (first.address, second.address)
        yield Pair(
            addresses,
            (
                stack.enter_context(Caller(first.address)),
                stack.enter_context(Caller(second.address)),
            ),
            (first.pid, second.pid),
            first.store,
        )


def loop(bundle: Bundle, frames: list[NDArray[np.float32]]) -> list[bytes]:
    """Returns the bytes of each output that the plain loop gives."""
    cell = bundle.cell()
    state = cell.initial_state()
    outputs = []
    for frame in frames:
        output, state = cell.step(frame, state)
        outputs.append(output.tobytes())
    return outputs


def write_at_once(
    pair: Pair,
    kind: type[Path],
    session: pb.Session,
    recordings: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> list[list[bytes | str]]:
    """Lets a writer at each server send each step at once; returns outputs or reasons."""
    barrier = threading.Barrier(2)
    answers: list[list[bytes | str]] = [[], []]

    def write(index: int) -> None:
        try:
            with kind(pair.callers[index]) as path:
                for step in range(STEPS):
                    request = path.request_class(
                        session=session.id,
                        generation=session.generation,
                        first_step=step,
                        step_count=1,
                        frames=recordings[index][step].tolist(),
                    )
                    barrier.wait(PATIENCE_S)
                    try:
                        answered = path.send(request.SerializeToString())
                    except Refused as refusal:
                        answers[index].append(refusal.reason)
                    else:
                        answers[index].append(np.array(answered.outputs, np.float32).tobytes())
        except BaseException:
            barrier.abort()
            raise

    threads = [threading.Thread(target=write, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [len(answered) for answered in answers] == [STEPS, STEPS]
    return answers


@pytest.mark.parametrize("kind", PATHS.values(), ids=PATHS)
def test_of_two_writers_with_different_frames_exactly_one_wins_each_step(
    pair: Pair, bundle: Bundle, kind: type[Path]
) -> None:
    session = pair.callers[0].create()
    golden = bundle.golden.frames[:STEPS]
    recordings = (golden, golden * np.float32(0.5))
    answers = write_at_once(pair, kind, session, recordings)
    winners = []
    outputs = []
    for step, both in enumerate(zip(*answers, strict=True)):
        (winner,) = [index for index in range(2) if both[index] != "STEP_CONFLICT"]
        assert isinstance(both[winner], bytes), f"step {step}: {both}"
        winners.append(winner)
        outputs.append(both[winner])
    assert outputs == loop(bundle, [recordings[index][step] for step, index in enumerate(winners)])
    print(f"the writers won {winners.count(0)} and {winners.count(1)} steps")
    for caller in pair.callers:
        assert caller.get(session.id).next_step == STEPS


@pytest.mark.parametrize("kind", PATHS.values(), ids=PATHS)
def test_two_writers_with_the_same_frames_both_get_the_outputs(
    pair: Pair, bundle: Bundle, kind: type[Path]
) -> None:
    session = pair.callers[1].create()
    golden = bundle.golden.frames[:STEPS]
    answers = write_at_once(pair, kind, session, (golden, golden))
    expected = loop(bundle, list(golden))
    assert answers == [expected, expected]
    assert pair.callers[0].get(session.id).next_step == STEPS


def test_what_one_server_does_the_other_sees_at_once(pair: Pair, bundle: Bundle) -> None:
    first, second = pair.callers
    subject = Subject(first, looped(bundle, first))
    with StreamPath(first) as here, StreamPath(second) as there:
        for step in range(3 * WINDOW):
            subject.advance((here, there)[step % 2])
            subject.repeat((here, there)[1 - step % 2], step)
        assert second.get(subject.id) == first.get(subject.id)
        second.delete(subject.id, subject.generation)
        with pytest.raises(Refused) as caught:
            first.get(subject.id)
        assert caught.value.reason == "SESSION_DELETED"


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stops a process from running at all for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_server_that_is_stopped_delays_the_other_not_at_all(pair: Pair, bundle: Bundle) -> None:
    subject = Subject(pair.callers[0], looped(bundle, pair.callers[0]))
    with StreamPath(pair.callers[0]) as here, StreamPath(pair.callers[1]) as there:
        subject.advance(here)
        subject.advance(there)
        with stopped(pair.pids[0]):
            # What waits at the stopped server in the meantime is not lost with it.
            here.post(subject.request(here, 2).SerializeToString())
            while subject.next_step < 60:
                subject.advance(there)
            created = Subject(pair.callers[1], looped(bundle, pair.callers[1]))
            created.advance(there, WINDOW)
        with pytest.raises(Refused) as caught:
            here.receive()
        assert caught.value.reason == "STEP_STALE"
        subject.repeat(here, 59)
        created.repeat(here, WINDOW - 1)


def test_step_beside_a_writer_that_stands_still_in_its_transaction_is_applied_when_it_is_gone(
    pair: Pair, bundle: Bundle
) -> None:
    subject = Subject(pair.callers[0], looped(bundle, pair.callers[0]))
    with StoreProcess(pair.store) as writer, StreamPath(pair.callers[0]) as path:
        subject.advance(path)
        writer.tell("begin")
        writer.wait_until_stopped()
        # A second's patience, and then a reason.
        with pytest.raises(Refused) as busy:
            path.send(subject.request(path, 1).SerializeToString())
        assert busy.value.reason == "STORE_BUSY"
        writer.kill()
        subject.advance(path)


@pytest.fixture
def in_process_pair(tmp_path: pathlib.Path) -> Iterator[tuple[Caller, Caller]]:
    """Two servers in this process, which may not open one store twice."""
    records = SqliteStore.open(tmp_path / "store")
    model = served(CountingCell())
    with (
        InProcessServer([model], records) as first,
        InProcessServer([model], records) as second,
        Caller(first.address) as here,
        Caller(second.address) as there,
    ):
        yield here, there
    records.close()


@pytest.mark.parametrize("kind", PATHS.values(), ids=PATHS)
def test_steps_may_go_to_either_server_and_again_to_the_other(
    in_process_pair: tuple[Caller, Caller], kind: Callable[[Caller], Path]
) -> None:
    here, there = in_process_pair
    session = here.create()
    with kind(here) as path, kind(there) as other:
        for step in range(50):
            request = path.request_class(
                session=session.id,
                generation=session.generation,
                first_step=step,
                step_count=1,
                frames=[float(step)],
            ).SerializeToString()
            expected = counting_outputs(np.array([step], np.float32), step).tolist()
            for each in (path, other) if step % 2 else (other, path):
                assert list(each.send(request).outputs) == expected
    assert there.get(session.id).next_step == 50

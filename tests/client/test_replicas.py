"""Several servers of one store: whichever is away, the outputs are those of the plain loop."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from doubles.witness import Witness
from tickcell.cli import comparison
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, errors, unary_calls
from tickcell.client import address as addresses
from tickcell.client.link import Link
from tickcell.client.servers import Servers
from tickcell.model import LiteRTCell
from tickcell.server.store.directory import INDEX
from tickcell.server.store.lock_table import locks_on
from ways import DRIVEN_WAYS

# Where SQLite's writer locks the file beside a write-ahead log.
WRITE_LOCK = 120
# Far below what a client waits for a server of its own (5 s), and far above what a call takes.
AT_ONCE_S = 4.0


class Replicas:
    """Two servers of one store."""

    def __init__(self, directory: pathlib.Path, stack: contextlib.ExitStack) -> None:
        self._locked = directory / "store" / INDEX
        store = ("--store", str(directory / "store"))
        self.servers = [
            stack.enter_context(ServerProcess(directory, *store, listen="127.0.0.1:0"))
            for _ in range(2)
        ]

    @property
    def addresses(self) -> str:
        """Of the two."""
        return ",".join(server.address for server in self.servers)

    def asked_first(self, session: str) -> ServerProcess:
        """Returns the one of the two that a session asks first."""
        first = asked(session, [server.address for server in self.servers])[0]
        return next(server for server in self.servers if server.address == first)

    @contextlib.contextmanager
    def paused(self, server: ServerProcess) -> Iterator[None]:
        """Pauses a server that is not inside a commit, where it would hold the store's lock."""
        while True:
            with server.paused():
                held = [lock.start for lock in locks_on(self._locked) if lock.pid == server.pid]
                if WRITE_LOCK not in held:
                    yield
                    return


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(tempfile.TemporaryDirectory(prefix="tickcell-"))
        yield Replicas(pathlib.Path(path), stack)


@pytest.fixture
def foreign(tmp_path: pathlib.Path) -> Iterator[ServerProcess]:
    """A server of another store."""
    with ServerProcess(tmp_path, listen="127.0.0.1:0") as server:
        yield server


def unused_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def asked(session: str, listed: list[str]) -> list[str]:
    """Returns addresses in the order in which a session asks them."""
    servers, order = Servers(addresses.parse_all(listed), session), []
    for _ in listed:
        order.append(servers.current.text)
        servers.leave(servers.current)
    return order


NAMES = [f"car-{number}" for number in range(100)]


@pytest.mark.parametrize(("sessions", "steps"), DRIVEN_WAYS)
def test_the_next_server_goes_on_at_once_when_one_is_killed(
    sessions: type[Session],
    replicas: Replicas,
    frames: np.ndarray,
    expected: np.ndarray,
    steps: Callable[[Session, np.ndarray], Iterator[np.ndarray]],
) -> None:
    outputs, times = [], []
    with sessions.create(replicas.addresses) as session:
        for step, output in enumerate(steps(session, frames[:200])):
            outputs.append(output)
            times.append(time.monotonic())
            if step == 60:
                replicas.asked_first(session.id).kill()
    assert np.stack(outputs).tobytes() == expected[:200].tobytes()
    assert max(np.diff(times)) < AT_ONCE_S


def test_a_server_that_drains_and_one_that_comes_back_lose_nothing(
    replicas: Replicas, frames: np.ndarray, expected: np.ndarray
) -> None:
    outputs = []
    with Session.create(replicas.addresses) as session:
        first = replicas.asked_first(session.id)
        (second,) = [server for server in replicas.servers if server is not first]
        for step, output in enumerate(session.stream(frames)):
            outputs.append(output)
            if step == 60:
                first.stop()
            if step == 120:
                first.restart()
                second.kill()
    assert np.stack(outputs).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("sessions", "steps"), DRIVEN_WAYS[::2])
def test_a_server_that_hangs_is_left_after_the_deadline(
    sessions: type[Session],
    replicas: Replicas,
    frames: np.ndarray,
    expected: np.ndarray,
    steps: Callable[[Session, np.ndarray], Iterator[np.ndarray]],
) -> None:
    outputs = []
    with (
        contextlib.ExitStack() as stack,
        sessions.create(replicas.addresses, deadline_s=1) as session,
    ):
        for step, output in enumerate(steps(session, frames[:100])):
            outputs.append(output)
            if step == 50:
                stack.enter_context(replicas.paused(replicas.asked_first(session.id)))
        # Deleted by the other, too.
    assert np.stack(outputs).tobytes() == expected[:100].tobytes()


def test_a_session_begins_at_whichever_server_answers(
    sessions: type[Session], replicas: Replicas, frames: np.ndarray
) -> None:
    nobody = unused_address()
    listed = [nobody, replicas.servers[0].address]
    for number in range(8):
        # However often each is the first: they are asked once, and nothing is tried again.
        with sessions.create(listed, f"car-{number}", retry_for_s=0) as session:
            session.step(frames[0])
    with Link(listed, retry_for_s=0) as link:
        assert list(link.do(unary_calls.list_sessions)) == []


def test_a_server_of_another_store_is_passed_over(
    replicas: Replicas, foreign: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    listed = [foreign.address, *(server.address for server in replicas.servers)]
    name = next(name for name in NAMES if asked(name, listed)[1] == foreign.address)
    outputs = []
    with Session.create(listed, name, retry_for_s=20) as session:
        for step, output in enumerate(session.stream(frames[:100])):
            outputs.append(output)
            if step == 50:
                first = asked(name, listed)[0]
                next(each for each in replicas.servers if each.address == first).kill()
    assert np.stack(outputs).tobytes() == expected[:100].tobytes()


def test_a_session_is_found_though_a_server_of_another_store_is_asked_first(
    sessions: type[Session],
    replicas: Replicas,
    foreign: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
) -> None:
    listed = [foreign.address, *(server.address for server in replicas.servers)]
    name = next(name for name in NAMES if asked(name, listed)[0] == foreign.address)
    with sessions.create(replicas.addresses, name) as session:
        outputs = [session.step(frames[0])]
        # Also while one of the others is away.
        replicas.servers[0].kill()
        attached = sessions.attach(listed, name, retry_for_s=0)
        outputs.append(attached.step(frames[1]))
        attached.detach()
    assert np.stack(outputs).tobytes() == expected[:2].tobytes()


def test_a_session_that_nobody_knows_is_said_to_be_unknown_though_a_server_is_away(
    sessions: type[Session],
    replicas: Replicas,
) -> None:
    replicas.servers[0].kill()
    began = time.monotonic()
    for name in NAMES[:4]:
        with pytest.raises(errors.SessionUnknownError):
            sessions.attach(replicas.addresses, name, retry_for_s=None)
    assert time.monotonic() - began < 4 * AT_ONCE_S


@pytest.mark.parametrize("streams", [False, True])
def test_where_only_a_server_of_another_store_answers_both_are_named(
    replicas: Replicas, foreign: ServerProcess, frames: np.ndarray, streams: bool
) -> None:
    listed = [replicas.servers[0].address, foreign.address]
    with Session.create(foreign.address) as other:
        foreign_id = other.info.store_id
    name = next(name for name in NAMES if asked(name, listed) == listed)
    session = Session.create(listed, name, retry_for_s=1)
    replicas.servers[0].kill()
    goes_on = session.stream(frames[:3]) if streams else map(session.step, frames[:3])
    with pytest.raises(errors.UnavailableError) as refused:
        list(goes_on)
    assert (
        f"{foreign.address}: keeps sessions in the store {foreign_id}, expected "
        f"{session.info.store_id}"
    ) in str(refused.value)
    session.detach()


def test_two_clients_on_one_session_through_two_servers_one_of_which_wins_each_step(
    replicas: Replicas, cell: LiteRTCell, frames: np.ndarray
) -> None:
    steps, created = 40, Session.create(replicas.addresses)
    places = [server.address for server in replicas.servers]
    # Each has frames of its own.
    own = [frames[:steps], frames[steps : 2 * steps]]
    together = threading.Barrier(2, timeout=60)
    outputs: list[list[np.ndarray | None]] = [[], []]

    def drive(client: int) -> None:
        for step in range(steps):
            session = Session.attach(places[client], created.id)
            assert session.next_step == step
            together.wait()
            try:
                outputs[client].append(session.step(own[client][step]))
            except errors.StepConflictError:
                outputs[client].append(None)
            session.detach()
            together.wait()

    threads = [threading.Thread(target=drive, args=(client,)) for client in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    winners = [0 if outputs[0][step] is not None else 1 for step in range(steps)]
    assert [outputs[1 - winner][step] for step, winner in enumerate(winners)] == [None] * steps
    won = np.stack([own[winner][step] for step, winner in enumerate(winners)])
    given = [np.asarray(outputs[winner][step]) for step, winner in enumerate(winners)]
    assert np.stack(given).tobytes() == comparison.loop(cell, won).tobytes()
    created.close()


def test_every_call_about_a_session_names_it_for_proxies(
    replicas: Replicas, frames: np.ndarray
) -> None:
    witness = Witness(replicas.servers[0].address)
    with Session.create(witness.address) as session:
        session.step(frames[0])
        session.steps(frames[1:5])
        list(session.stream(frames[5:9]))
        session.touch()
        session.reset()
        Session.attach(witness.address, session.id).detach()
    witness.close()
    assert {shown.get("x-session-id") for _, shown in witness.seen} == {session.id}
    assert {method for method, _ in witness.seen} == {
        *("CreateSession", "StepSession", "StreamSteps", "TouchSession", "ResetSession"),
        *("GetSession", "DeleteSession"),
    }


@pytest.mark.parametrize("session", ["vehicle 7", "caf\xe9/\u4e94", "x" * 100_000])
def test_an_id_that_is_none_reaches_the_server_which_says_so(
    sessions: type[Session], replicas: Replicas, session: str
) -> None:
    with pytest.raises(errors.ArgumentInvalidError):
        sessions.create(replicas.addresses, session)

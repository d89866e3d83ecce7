"""A full disk, seen by callers: refused, nothing lost or torn, and on again."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from doubles.counted_source import wait_until
from doubles.counting_cell import CountingCell, counting_outputs
from doubles.in_process_server import InProcessServer, in_loop, served
from server import small_disk
from tickcell import wire
from tickcell.conformance.caller import Caller, Refused, StreamPath
from tickcell.server import record
from tickcell.server.store import Key, SqliteStore
from tickcell.v1 import session_service_pb2 as pb

# An eighth of it is the reserve.
SIZE = 24 << 20
WINDOW = 8
# So many that a few hundred sessions fill the store.
SERIES = 1024


class Filled(NamedTuple):
    """A server whose store has no room for one more session of the usual size.

    `sessions` were all acknowledged, each after as many steps as its window holds.
    """

    caller: Caller
    path: StreamPath
    sessions: list[pb.Session]
    records: SqliteStore
    directory: pathlib.Path


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    with small_disk.mounted(tmp_path, SIZE):
        yield tmp_path


@pytest.fixture
def filled(disk: pathlib.Path) -> Iterator[Filled]:
    records = SqliteStore.open(disk / "store")
    with (
        InProcessServer([served(CountingCell())], records) as server,
        Caller(server.address) as caller,
        StreamPath(caller) as path,
    ):
        sessions: list[pb.Session] = []
        with pytest.raises(Refused) as caught:
            fill(caller, path, sessions)
        assert caught.value.reason == "STORE_FULL"

        assert len(sessions) > 50
        yield Filled(caller, path, sessions, records, disk)
    records.close()


def fill(caller: Caller, path: StreamPath, sessions: list[pb.Session]) -> None:
    """Creates and steps sessions until it is refused."""
    while True:
        sessions.append(begin(caller, path))


def begin(caller: Caller, path: StreamPath) -> pb.Session:
    """Creates a session and steps it to its full size."""
    session = caller.create(series_count=SERIES, window_step_count=WINDOW)
    step(path, session, 0, WINDOW)
    return session


def fits(caller: Caller, path: StreamPath) -> bool:
    """Whether there is room for one more session."""
    with contextlib.suppress(Refused):
        begin(caller, path)
        return True
    return False


def step(path: StreamPath, session: pb.Session, first_step: int, count: int) -> None:
    """Steps a session, or repeats steps, and holds the answer to the cell."""
    frames = np.arange(SERIES, dtype=np.float32)[:, np.newaxis] % 300 + np.zeros((count, 1, 1))
    request = wire.StreamStepsRequest(
        session=session.id,
        generation=session.generation,
        first_step=first_step,
        step_count=count,
        frames=frames.astype("<f4").tobytes(),
    )
    answered = path.send(request.SerializeToString())
    expected = counting_outputs(frames, first_step).ravel()
    np.testing.assert_array_equal(np.array(answered.outputs, np.float32), expected)


def everything_in(filled: Filled) -> list[record.Record]:
    """Returns every record, each of which must be whole."""

    async def scan() -> list[tuple[Key, bytes]]:
        return filled.records.scan("", None, 1 << 20)

    # The server's connection is its loop's.
    return [record.decode(key, encoded) for key, encoded in in_loop(scan)]


def test_reading_goes_on(filled: Filled) -> None:
    for session in filled.sessions:
        assert filled.caller.get(session.id).next_step == WINDOW
        step(filled.path, session, 2, WINDOW - 2)


def test_what_is_refused_changes_nothing(filled: Filled) -> None:
    before = everything_in(filled)
    assert {found.next_step for found in before} <= {0, WINDOW}
    for _ in range(50):
        with pytest.raises(Refused) as caught:
            fill(filled.caller, filled.path, [])
        assert caught.value.reason == "STORE_FULL"
    # Those whose creation found room are as they were created.
    after = [found for found in everything_in(filled) if found not in before]
    assert {found.next_step for found in after} <= {0}


def test_sessions_of_full_size_go_on_stepping(filled: Filled) -> None:
    for session in filled.sessions:
        step(filled.path, session, WINDOW, 1)
        step(filled.path, session, WINDOW, 3)
        assert filled.caller.get(session.id).next_step == WINDOW + 3


def test_any_session_can_be_deleted_and_the_others_go_on(filled: Filled) -> None:
    for session in filled.sessions[:10]:
        filled.caller.delete(session.id, session.generation)
    for session in filled.sessions[10:]:
        step(filled.path, session, WINDOW - 1, 2)


def test_no_record_is_lost_or_torn(filled: Filled) -> None:
    for session in filled.sessions[::2]:
        step(filled.path, session, WINDOW, 5)
    by_generation = {found.life.generation: found for found in everything_in(filled)}
    series = np.arange(SERIES) % 300
    for index, session in enumerate(filled.sessions):
        found = by_generation[session.generation]
        assert found.next_step == WINDOW + (0 if index % 2 else 5)
        outputs = np.frombuffer(found.outputs, "<f4").reshape(WINDOW, SERIES)
        steps = np.arange(found.next_step - WINDOW, found.next_step)[:, np.newaxis]
        np.testing.assert_array_equal(outputs, series + 1000 * steps)


def test_disk_that_others_fill_refuses_until_they_make_room(disk: pathlib.Path) -> None:
    records = SqliteStore.open(disk / "store")
    logs = disk / "logs"
    with (
        InProcessServer([served(CountingCell())], records) as server,
        Caller(server.address) as caller,
        StreamPath(caller) as path,
    ):
        session = begin(caller, path)
        small_disk.fill(logs)
        with pytest.raises(Refused) as caught:
            fill(caller, path, [])
        assert caught.value.reason == "STORE_FULL"
        step(path, session, WINDOW, 1)
        logs.unlink()
        # The upkeep sets a reserve aside again, and then there is room for others.
        wait_until(lambda: fits(caller, path))
    records.close()

"""Servers of one store that are not alike for a while: what one cannot do, the next one does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from doubles.faulty_proxy import Fault, FaultyProxy
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, errors
from tickcell.client import address as addresses
from tickcell.client.servers import Servers
from ways import DRIVEN_WAYS

# None of them says when to ask again.
UNLIKE = ["MODEL_NOT_SERVED", "NUMERICS_CHANGED", "RECORD_NEWER", "STORE_AWAY"]


class TwoDoors:
    """Two addresses of one store, each of which can be made to refuse all steps."""

    def __init__(self, doors: list[FaultyProxy]) -> None:
        self.doors = doors
        self.addresses = [door.address for door in doors]

    def refuse(self, door: FaultyProxy, reason: str) -> None:
        """Has a door refuse steps from now on."""
        for method in ("StepSession", "StreamSteps"):
            door.faults[method].extend([Fault("refuse", reason=reason)] * 1000)

    def used(self) -> FaultyProxy:
        """Returns the one through which the session was created."""
        (used,) = (door for door in self.doors if door.calls["CreateSession"])
        return used


@pytest.fixture
def two(server: ServerProcess) -> Iterator[TwoDoors]:
    with contextlib.ExitStack() as stack:
        doors = [FaultyProxy(server.address) for _ in range(2)]
        for door in doors:
            stack.callback(door.close)
        yield TwoDoors(doors)


@pytest.mark.parametrize("reason", UNLIKE)
@pytest.mark.parametrize(("sessions", "steps"), DRIVEN_WAYS)
def test_the_next_server_goes_on_with_what_one_cannot_do(
    sessions: type[Session],
    two: TwoDoors,
    frames: np.ndarray,
    expected: np.ndarray,
    steps: Callable[[Session, np.ndarray], Iterator[np.ndarray]],
    reason: str,
) -> None:
    # Nothing is tried again: each server is asked once.
    with sessions.create(two.addresses, retry_for_s=0) as session:
        two.refuse(two.used(), reason)
        outputs = list(steps(session, frames[:100]))
    assert np.stack(outputs).tobytes() == expected[:100].tobytes()
    calls = two.used().calls
    assert calls["StepSession"] + calls["StreamSteps"] == 1


@pytest.mark.parametrize(("sessions", "steps"), DRIVEN_WAYS[::2])
def test_what_no_server_can_do_is_told_at_once_and_loses_nothing(
    sessions: type[Session],
    two: TwoDoors,
    frames: np.ndarray,
    expected: np.ndarray,
    steps: Callable[[Session, np.ndarray], Iterator[np.ndarray]],
) -> None:
    with sessions.create(two.addresses, retry_for_s=None) as session:
        outputs = [session.step(frames[0])]
        for door in two.doors:
            two.refuse(door, "MODEL_NOT_SERVED")
        with pytest.raises(errors.ModelNotServedError):
            list(steps(session, frames[1:20]))
        assert session.next_step == 1
        for door in two.doors:
            assert door.calls["StepSession"] + door.calls["StreamSteps"] >= 1
            door.faults.clear()
        outputs.extend(session.steps(frames[1:20]))
    assert np.stack(outputs).tobytes() == expected[:20].tobytes()


def test_a_new_session_gets_a_model_that_only_the_next_server_has(
    sessions: type[Session], two: TwoDoors
) -> None:
    for door in two.doors:
        door.faults["CreateSession"].append(Fault("refuse", reason="MODEL_UNKNOWN"))
    with pytest.raises(errors.ModelUnknownError):
        sessions.create(two.addresses, retry_for_s=None)
    places = addresses.parse_all(two.addresses)
    name = next(each for each in map(str, range(100)) if Servers(places, each).current is places[0])
    two.doors[0].faults["CreateSession"].append(Fault("refuse", reason="MODEL_UNKNOWN"))
    sessions.create(two.addresses, name, retry_for_s=0).close()
    # Each was asked once for either session.
    assert [door.calls["CreateSession"] for door in two.doors] == [2, 2]


@pytest.mark.parametrize(("sessions", "steps"), DRIVEN_WAYS[::2])
def test_a_refusal_that_does_not_say_of_which_session_is_a_reply_error(
    sessions: type[Session],
    two: TwoDoors,
    frames: np.ndarray,
    expected: np.ndarray,
    steps: Callable[[Session, np.ndarray], Iterator[np.ndarray]],
) -> None:
    with sessions.create(two.addresses) as session:
        session.step(frames[0])
        two.refuse(two.used(), "SESSION_UNKNOWN")
        with pytest.raises(errors.ReplyError, match="without the session in its metadata"):
            list(steps(session, frames[1:20]))
        assert session.next_step == 1
        two.used().faults.clear()
        session.unanswered  # noqa: B018 - reading hands the frames over
        outputs = session.steps(frames[1:20])
    assert outputs.tobytes() == expected[1:20].tobytes()

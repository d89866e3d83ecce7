"""Servers are killed, stopped and paused; the outputs are those of the plain loop."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import seeds
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, errors

# Far more than a reply takes on a busy machine, and what each of two tests waits for.
DEADLINE_S = 1.0


@pytest.mark.parametrize("seed", seeds.of(3))
def test_a_stream_outlives_servers_that_are_killed(
    sessions: type[Session],
    mortal_server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
    seed: int,
) -> None:
    chance = random.Random(seed)
    kill_at = sorted(chance.sample(range(10, 280), 3))
    outputs = []
    with sessions.create(mortal_server.address) as session:
        for step, output in enumerate(session.stream(frames, max_chunk=chance.choice([1, 4, 16]))):
            outputs.append(output)
            if kill_at and step >= kill_at[0] and session.in_flight:
                kill_at.pop(0)
                mortal_server.kill()
                mortal_server.restart()
    assert np.stack(outputs).tobytes() == expected.tobytes()


def test_a_step_waits_for_a_server_to_come_back(
    mortal_server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with Session.create(mortal_server.address) as session:
        session.step(frames[0])
        mortal_server.kill()
        back = threading.Thread(target=mortal_server.restart)
        back.start()
        assert session.step(frames[1]) == expected[1]
        back.join()


def test_a_drained_server_s_stream_goes_on_at_the_next(
    sessions: type[Session], mortal_server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    outputs = []
    with sessions.create(mortal_server.address) as session:
        for step, output in enumerate(session.stream(frames)):
            outputs.append(output)
            if step == 100:
                mortal_server.stop()
                mortal_server.restart()
    assert np.stack(outputs).tobytes() == expected.tobytes()


def test_a_paused_server_is_given_up_after_the_deadline(
    sessions: type[Session], mortal_server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(mortal_server.address, deadline_s=DEADLINE_S, retry_for_s=0.0) as session:
        session.step(frames[0])
        with (
            mortal_server.paused(),
            pytest.raises(errors.UnavailableError, match="no reply for 1 s"),
        ):
            session.step(frames[1])
        assert session.step(frames[1]) == expected[1]


def test_a_stream_over_a_paused_server_is_given_up_after_the_deadline(
    sessions: type[Session], mortal_server: ServerProcess, frames: np.ndarray
) -> None:
    with sessions.create(mortal_server.address, deadline_s=DEADLINE_S, retry_for_s=0.0) as session:
        session.step(frames[0])
        with (
            mortal_server.paused(),
            pytest.raises(errors.UnavailableError, match="no reply for 1 s"),
        ):
            next(session.stream(frames[1:]))


def test_a_server_that_goes_away_while_nothing_is_asked_is_no_news(
    sessions: type[Session],
    mortal_server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
    caplog: pytest.LogCaptureFixture,
) -> None:
    go_on = threading.Event()

    def source() -> Iterator[np.ndarray]:
        yield from frames[:5]
        go_on.wait()
        yield from frames[5:10]

    outputs = []
    with sessions.create(mortal_server.address, retry_for_s=5.0) as session:
        for output in session.stream(source()):
            outputs.append(output)
            if len(outputs) == 5:
                mortal_server.kill()
                mortal_server.restart()
                go_on.set()
    assert np.stack(outputs).tobytes() == expected[:10].tobytes()


def test_an_outage_is_noted_once_and_its_end_too(
    mortal_server: ServerProcess, frames: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    with Session.create(mortal_server.address) as session:
        mortal_server.kill()
        back = threading.Thread(target=mortal_server.restart)
        back.start()
        session.step(frames[0])
        back.join()
    notes = [record.getMessage() for record in caplog.records]
    assert len(notes) == 2
    assert "trying again for 60 s" in notes[0]
    assert "answers again" in notes[1]

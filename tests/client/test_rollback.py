"""A store that is put back is healed by the frames that clients keep; else there is one error."""

from __future__ import annotations

import logging
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np
import pytest

from doubles.restorable_server import RestorableServer
from tickcell.client import PacedSession, Session, errors


@pytest.fixture
def server() -> Iterator[RestorableServer]:
    # A socket's path must be short.
    with (
        tempfile.TemporaryDirectory(prefix="tickcell-") as directory,
        RestorableServer(pathlib.Path(directory)) as started,
    ):
        yield started


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a loaded machine more than five seconds lie between a backup and its restore."""
    monkeypatch.setattr("tickcell.client.recall.KEPT_S", 120.0)


def test_single_steps_go_on_over_a_store_that_was_put_back_twice(
    server: RestorableServer,
    frames: np.ndarray,
    expected: np.ndarray,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outputs = []
    with (
        caplog.at_level(logging.WARNING, "tickcell.client"),
        Session.create(server.address, window=8) as session,
    ):
        for step, frame in enumerate(frames[:120]):
            if step == 30:
                server.back_up()
            if step in (80, 100):
                server.put_back()
            outputs.append(session.step(frame))
        assert session.rollback_count == 2
        assert session.info.next_step == 0
        session.touch()
        assert session.info.next_step == 120
    assert np.stack(outputs).tobytes() == expected[:120].tobytes()
    told = [record.getMessage() for record in caplog.records if "put back" in record.getMessage()]
    assert [text.partition(": ")[2].partition(";")[0] for text in told] == [
        "the store was put back, from step 80 to step 30",
        "the store was put back, from step 100 to step 30",
    ]


@pytest.mark.parametrize("max_chunk", [1, 5])
def test_a_stream_goes_on_over_a_store_that_was_put_back(
    server: RestorableServer, frames: np.ndarray, expected: np.ndarray, max_chunk: int
) -> None:
    outputs = []
    with Session.create(server.address, window=8) as session:
        for step, output in enumerate(session.stream(frames, max_chunk=max_chunk)):
            outputs.append(output)
            if step == 50:
                server.back_up()
            if step == 150:
                server.put_back()
        assert session.rollback_count == 1
        session.touch()
        assert session.info.next_step == len(frames)
    assert np.stack(outputs).tobytes() == expected.tobytes()


def test_chunks_streams_and_paced_loops_recall_one_another_s_steps(
    server: RestorableServer, frames: np.ndarray, expected: np.ndarray
) -> None:
    with Session.create(server.address, window=8) as session:
        outputs = [*session.steps(frames[:20])]
        server.back_up()
        outputs += [*session.steps(frames[20:50])]
        outputs += [*session.stream(frames[50:90])]
        outputs += [session.step(frames[90])]
        server.put_back()
        with PacedSession(session, rate_hz=1, budget_s=60) as paced:
            outputs += [paced.tick(frame) for frame in frames[91:100]]
        server.put_back()
        outputs += [*session.steps(frames[100:120])]
        assert session.rollback_count == 2
    assert np.stack(outputs).tobytes() == expected[:120].tobytes()


def test_steps_that_are_not_kept_any_more_are_named(
    server: RestorableServer,
    frames: np.ndarray,
    expected: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tickcell.client.recall.KEPT_S", 0.0)
    with Session.create(server.address, window=8) as session:
        session.steps(frames[:10])
        server.back_up()
        for frame in frames[10:40]:
            session.step(frame)
        server.put_back()
        for _ in range(2):
            with pytest.raises(errors.StepGapError, match="steps 10 to 31 are no more kept") as gap:
                session.step(frames[40])
            assert gap.value.metadata["missing_to"] == "31"
        assert session.next_step == 40
        session.rewind(10)
        assert session.steps(frames[10:60]).tobytes() == expected[10:60].tobytes()


@pytest.mark.parametrize("written", [3, 40])
@pytest.mark.parametrize("streams", [False, True])
def test_a_second_writer_on_a_store_that_was_put_back_is_found_out(
    server: RestorableServer, frames: np.ndarray, expected: np.ndarray, written: int, streams: bool
) -> None:
    with Session.create(server.address, window=8) as session:
        session.steps(frames[:10])
        server.back_up()
        outputs = [*session.steps(frames[10:40])]
        server.put_back()
        zombie = Session.attach(server.address, session.id)
        assert zombie.next_step == 10
        zombie.steps(frames[100 : 100 + written])
        zombie.detach()
        # However far it came: fewer steps than are missing, or more.
        goes_on = session.stream(frames[40:60]) if streams else map(session.step, frames[40:60])
        with pytest.raises((errors.StepConflictError, errors.StepStaleError)):
            outputs += goes_on
        assert session.next_step == 40
    assert np.stack(outputs).tobytes() == expected[10:40].tobytes()


def test_a_create_that_was_lost_is_said_to_be(server: RestorableServer, frames: np.ndarray) -> None:
    server.back_up()
    with Session.create(server.address, window=8) as session:
        session.steps(frames[:10])
        server.put_back()
        with pytest.raises(errors.CreateLostError, match="put back to before the session was"):
            session.step(frames[10])
        with pytest.raises(errors.CreateLostError):
            next(iter(session.stream(frames[10:20])))
        with pytest.raises(errors.CreateLostError):
            session.touch()
        assert len(session.unanswered)


def test_a_reset_that_was_lost_is_said_to_be(server: RestorableServer, frames: np.ndarray) -> None:
    with Session.create(server.address, window=8) as session:
        session.steps(frames[:10])
        server.back_up()
        session.reset()
        session.steps(frames[:5])
        server.put_back()
        with pytest.raises(errors.ResetLostError, match="step 10 of the life that was ended"):
            session.step(frames[5])
        with pytest.raises(errors.ResetLostError):
            next(iter(session.stream(frames[5:20])))

"""A store that is put back is healed by the frames that clients keep; else there is one error."""

from __future__ import annotations

import logging
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np
import pytest

from doubles.awaited_session import paced_loop
from doubles.counted_source import wait_until
from doubles.restorable_server import RestorableServer
from tickcell.client import PacedSession, Session, errors
from tickcell.client.delivery import Delivery
from tickcell.client.life import Chunk, Life
from tickcell.client.needs import Operation
from tickcell.client.pipeline import Pipeline
from tickcell.client.turns import Turns


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
    sessions: type[Session],
    server: RestorableServer,
    frames: np.ndarray,
    expected: np.ndarray,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outputs = []
    with (
        caplog.at_level(logging.WARNING, "tickcell.client"),
        sessions.create(server.address, window=8) as session,
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
    sessions: type[Session], server: RestorableServer, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address, window=8) as session:
        outputs = [*session.steps(frames[:20])]
        server.back_up()
        outputs += [*session.steps(frames[20:50])]
        outputs += [*session.stream(frames[50:90])]
        outputs += [session.step(frames[90])]
        server.put_back()
        with paced_loop(session, rate_hz=1, budget_s=60) as paced:
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
            with pytest.raises(
                errors.StepGapError, match="steps 10 to 31 are no longer kept"
            ) as gap:
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
        with pytest.raises(
            errors.ResetLostError, match="step 10 of the life that a reset has ended"
        ):
            session.step(frames[5])
        with pytest.raises(errors.ResetLostError):
            next(iter(session.stream(frames[5:20])))


@pytest.mark.parametrize("way", ["step", "steps", "stream", "tick"])
@pytest.mark.parametrize("window", [1, 8])
def test_every_way_to_step_heals_twice_in_several_series_and_with_any_window(
    server: RestorableServer, frames: np.ndarray, expected: np.ndarray, way: str, window: int
) -> None:
    both = np.stack([frames[:60], frames[100:160]], axis=1)
    with Session.create(server.address, series_count=2, window=window) as session:
        outputs = [session.step(both[0])]
        server.back_up()
        outputs.extend(session.steps(both[1:20]))

        def source() -> Iterator[np.ndarray]:
            for index, frame in enumerate(both[20:], 20):
                if index in (30, 40):
                    server.put_back()
                yield frame

        if way == "step":
            outputs.extend(map(session.step, source()))
        elif way == "steps":
            outputs.extend(session.steps(frame[None])[0] for frame in source())
        elif way == "stream":
            outputs.extend(session.stream(source()))
        else:
            with PacedSession(session, rate_hz=1000, budget_s=60) as paced:
                for frame in source():
                    output = paced.tick(frame)
                    assert output is not None
                    outputs.append(output)
        assert session.rollback_count == 2
        session.touch()
        assert session.info.next_step == len(both)
    with Session.create(server.address, series_count=2) as plain:
        again = plain.steps(both)
    assert np.stack(outputs).tobytes() == again.tobytes()
    assert again[:, 0].tobytes() == expected[:60].tobytes()


@pytest.mark.parametrize("is_left_by", [KeyboardInterrupt, GeneratorExit])
def test_a_stream_that_is_left_amid_healing_is_healed_by_whatever_steps_next(
    server: RestorableServer,
    frames: np.ndarray,
    expected: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    is_left_by: type[BaseException],
) -> None:
    with Session.create(server.address, window=4) as session:
        outputs = [*session.steps(frames[:10])]
        server.back_up()
        outputs.extend(session.steps(frames[10:40]))
        server.put_back()
        source = iter(frames[40:60])
        stream = session.stream(source, max_chunk=1)
        send = Delivery.chunk

        def halting(delivery: Delivery, now: float) -> Chunk | None:
            """Sends some of the steps that are missing, and not all."""
            return None if 10 < delivery.flight.answered < 40 else send(delivery, now)

        def interrupted(pipeline: Pipeline, timeout_s: float | None = None) -> object:
            wait_until(lambda: 10 < pipeline.flight.answered < 40)
            raise is_left_by

        with monkeypatch.context() as patch:
            patch.setattr(Delivery, "chunk", halting)
            patch.setattr(Pipeline, "take", interrupted)
            with pytest.raises(is_left_by):
                next(stream)
        assert session.next_step == 40
        outputs.extend(session.steps(session.unanswered))
        outputs.extend(session.stream(source))
        assert session.rollback_count == 1
    assert np.stack(outputs).tobytes() == expected[:60].tobytes()


def test_a_step_that_is_interrupted_amid_healing_is_healed_by_a_stream(
    server: RestorableServer,
    frames: np.ndarray,
    expected: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Session.create(server.address, window=4) as session:
        outputs = [*session.steps(frames[:10])]
        server.back_up()
        outputs.extend(session.steps(frames[10:40]))
        server.put_back()
        exchange, sent = Turns.exchange, []

        def interrupted(
            turns: Turns, life: Life, chunk: Chunk, following: Chunk | None = None
        ) -> Operation[tuple[bytes, bytes]]:
            answer = yield from exchange(turns, life, chunk, following)
            sent.append(chunk.first_step)
            if len(sent) == 3:
                # It was applied, and nobody here knows.
                raise KeyboardInterrupt
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(Turns, "exchange", interrupted)
            with pytest.raises(KeyboardInterrupt):
                session.step(frames[40])
        assert sent == [10, 14, 18]
        assert session.next_step == 40
        outputs.extend(session.stream(frames[40:50]))
        server.put_back()
        outputs.extend(session.steps(frames[50:60]))
        assert session.rollback_count == 2
    assert np.stack(outputs).tobytes() == expected[:60].tobytes()

"""A store that is put back is healed by the frames that clients keep; else there is one error."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import pytest

from tickcell.cli.server_process import ServerProcess
from tickcell.client import PacedSession, Session, errors


class Plant:
    """A server and its store, which can be put back to how it was at a moment."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.server = ServerProcess(directory)
        self._backup = directory / "backup.db"

    def back_up(self) -> None:
        _store("backup", "--store", self.server.store, self._backup)

    def put_back(self) -> None:
        """Puts the backup in the store's place, while the server is away."""
        self.server.kill()
        _store("restore", "--store", self.server.store, self._backup)
        self.server.restart()


def _store(*arguments: object) -> None:
    command = [sys.executable, "-m", "tickcell.cli", "store", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def plant() -> Iterator[Plant]:
    # A socket's path must be short.
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(tempfile.TemporaryDirectory(prefix="tickcell-"))
        made = Plant(pathlib.Path(path))
        stack.enter_context(made.server)
        yield made


def test_single_steps_go_on_over_a_store_that_was_put_back_twice(
    plant: Plant, frames: np.ndarray, expected: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    outputs = []
    with (
        caplog.at_level(logging.WARNING, "tickcell.client"),
        Session.create(plant.server.address, window=8) as session,
    ):
        for step, frame in enumerate(frames[:120]):
            if step == 30:
                plant.back_up()
            if step in (80, 100):
                plant.put_back()
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
    plant: Plant, frames: np.ndarray, expected: np.ndarray, max_chunk: int
) -> None:
    outputs = []
    with Session.create(plant.server.address, window=8) as session:
        for step, output in enumerate(session.stream(frames, max_chunk=max_chunk)):
            outputs.append(output)
            if step == 50:
                plant.back_up()
            if step == 150:
                plant.put_back()
        assert session.rollback_count == 1
        session.touch()
        assert session.info.next_step == len(frames)
    assert np.stack(outputs).tobytes() == expected.tobytes()


def test_chunks_streams_and_paced_loops_recall_one_another_s_steps(
    plant: Plant, frames: np.ndarray, expected: np.ndarray
) -> None:
    with Session.create(plant.server.address, window=8) as session:
        outputs = [*session.steps(frames[:20])]
        plant.back_up()
        outputs += [*session.steps(frames[20:50])]
        outputs += [*session.stream(frames[50:90])]
        outputs += [session.step(frames[90])]
        plant.put_back()
        with PacedSession(session, rate_hz=1, budget_s=60) as paced:
            outputs += [paced.tick(frame) for frame in frames[91:100]]
        plant.put_back()
        outputs += [*session.steps(frames[100:120])]
        assert session.rollback_count == 2
    assert np.stack(outputs).tobytes() == expected[:120].tobytes()


def test_steps_that_are_not_kept_any_more_are_named(
    plant: Plant, frames: np.ndarray, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tickcell.client.recall.KEPT_S", 0.0)
    with Session.create(plant.server.address, window=8) as session:
        session.steps(frames[:10])
        plant.back_up()
        for frame in frames[10:40]:
            session.step(frame)
        plant.put_back()
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
    plant: Plant, frames: np.ndarray, expected: np.ndarray, written: int, streams: bool
) -> None:
    with Session.create(plant.server.address, window=8) as session:
        session.steps(frames[:10])
        plant.back_up()
        outputs = [*session.steps(frames[10:40])]
        plant.put_back()
        zombie = Session.attach(plant.server.address, session.id)
        assert zombie.next_step == 10
        zombie.steps(frames[100 : 100 + written])
        zombie.detach()
        # However far it came: fewer steps than are missing, or more.
        goes_on = session.stream(frames[40:60]) if streams else map(session.step, frames[40:60])
        with pytest.raises((errors.StepConflictError, errors.StepStaleError)):
            outputs += goes_on
        assert session.next_step == 40
    assert np.stack(outputs).tobytes() == expected[10:40].tobytes()


def test_a_create_that_was_lost_is_said_to_be(plant: Plant, frames: np.ndarray) -> None:
    plant.back_up()
    with Session.create(plant.server.address, window=8) as session:
        session.steps(frames[:10])
        plant.put_back()
        with pytest.raises(errors.CreateLostError, match="put back to before the session was"):
            session.step(frames[10])
        with pytest.raises(errors.CreateLostError):
            next(iter(session.stream(frames[10:20])))
        with pytest.raises(errors.CreateLostError):
            session.touch()
        assert len(session.unanswered)


def test_a_reset_that_was_lost_is_said_to_be(plant: Plant, frames: np.ndarray) -> None:
    with Session.create(plant.server.address, window=8) as session:
        session.steps(frames[:10])
        plant.back_up()
        session.reset()
        session.steps(frames[:5])
        plant.put_back()
        with pytest.raises(errors.ResetLostError, match="step 10 of the life that was ended"):
            session.step(frames[5])
        with pytest.raises(errors.ResetLostError):
            next(iter(session.stream(frames[5:20])))

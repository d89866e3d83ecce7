"""A session's state as a value, by the library: taken over, previewed, copied, moved, migrated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from doubles.in_process_server import InProcessServer
from tickcell.cli import comparison
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, errors
from tickcell.model import Bundle, LiteRTCell
from tickcell.server.catalogue import ServedModel

Kind = type[Session]


class TestOpen:
    def test_creates_what_is_not_there_and_takes_over_what_lives(
        self, sessions: Kind, server: ServerProcess, frames: np.ndarray, expected: np.ndarray
    ) -> None:
        first = sessions.open(server.address, "arm-1", window=8)
        outputs = [*first.steps(frames[:50])]
        second = sessions.open(server.address, "arm-1")
        assert (second.next_step, second.info.window_step_count) == (50, 8)
        # The one before, however late, is told and harms nothing.
        with pytest.raises(errors.SessionClaimedError):
            first.step(frames[50])
        with pytest.raises(errors.SessionClaimedError):
            first.touch()
        outputs += [*second.steps(frames[50:])]
        first.close()
        assert second.step(frames[0]).shape == expected[0].shape
        second.close()
        assert np.stack(outputs).tobytes() == expected.tobytes()

    def test_another_session_than_is_wanted_is_left_alone(
        self, sessions: Kind, server: ServerProcess
    ) -> None:
        with sessions.open(server.address, "arm-2", series_count=2) as session:
            before = session.info
            others: list[dict[str, Any]] = [{"series_count": 3}, {"window": 5}]
            for wanted in others:
                with pytest.raises(errors.UsageError, match="is alive and has"):
                    sessions.open(server.address, "arm-2", **wanted)
            session.touch()
            assert session.info.generation == before.generation


def test_preview_is_of_the_steps_that_follow(
    sessions: Kind, server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        session.steps(frames[:20])
        branches = np.stack([frames[20:30], frames[30:40]])
        previewed = session.preview(branches)
        assert previewed.shape == (2, 10, expected.shape[1])
        assert previewed[0].tobytes() == expected[20:30].tobytes()
        assert session.steps(frames[20:30]).tobytes() == previewed[0].tobytes()


def test_kept_outputs_are_those_of_the_steps(
    sessions: Kind, server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address, window=8) as session:
        session.steps(frames[:20])
        first, outputs = session.kept_outputs()
        assert (first, outputs.tobytes()) == (12, expected[12:20].tobytes())
        first, outputs = session.kept_outputs(15, 2)
        assert (first, outputs.tobytes()) == (15, expected[15:17].tobytes())
        with pytest.raises(errors.StepStaleError):
            session.kept_outputs(11)


def test_a_fork_goes_on_by_itself(
    sessions: Kind, server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        session.steps(frames[:20])
        info = session.fork(labels={"why": "what if"})
        session.step(frames[0])
        with sessions.attach(server.address, info.id) as fork:
            assert (fork.next_step, fork.info.origin_step) == (20, 20)
            assert fork.steps(frames[20:]).tobytes() == expected[20:].tobytes()
            fork.reset()
            assert fork.next_step == 20
            assert fork.steps(frames[20:30]).tobytes() == expected[20:30].tobytes()


def test_an_export_goes_on_elsewhere(
    sessions: Kind, server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    session = sessions.create(server.address, labels={"a": "b"})
    session.steps(frames[:20])
    exported = session.export(end=True)
    with pytest.raises(errors.UsageError, match="is closed"):
        session.step(frames[20])
    with pytest.raises(errors.SessionMovedError):
        sessions.attach(server.address, session.id)
    with sessions.create(server.address, export=exported) as imported:
        assert (imported.next_step, imported.info.labels) == (20, {"a": "b"})
        imported.rewind(15)
        assert imported.steps(frames[15:]).tobytes() == expected[15:].tobytes()
    with pytest.raises(errors.ExportFileError):
        sessions.create(server.address, export=exported[:-1])


class TestEpisodes:
    @pytest.fixture
    def table(self, frames: np.ndarray) -> np.ndarray:
        """Frames of two series, `[60, 2, F]`."""
        return np.stack([frames[:60], frames[100:160]], axis=1)

    def loop(self, cell: LiteRTCell, table: np.ndarray, begins: np.ndarray) -> np.ndarray:
        """Returns the plain loop's outputs, each episode a loop of its own."""
        outputs = []
        state = cell.initial_state(2)
        for frame, begun in zip(table, begins, strict=True):
            state = np.where(begun[:, np.newaxis], cell.initial_state(2), state)
            output, state = cell.step(frame, state)
            outputs.append(output)
        return np.stack(outputs)

    def test_series_begin_anew_inside_steps(
        self, sessions: Kind, server: ServerProcess, cell: LiteRTCell, table: np.ndarray
    ) -> None:
        begins = np.random.default_rng(7).random((60, 2)) < 0.1
        expected = self.loop(cell, table, begins)
        with sessions.create(server.address, series_count=2) as session:
            outputs = [session.step(table[0], resets=begins[0])]
            outputs += [*session.steps(table[1:], resets=begins[1:])]
        assert np.stack(outputs).tobytes() == expected.tobytes()

    def test_they_do_so_again_after_a_rewind(
        self, sessions: Kind, server: ServerProcess, table: np.ndarray
    ) -> None:
        begins = np.zeros((10, 2), bool)
        begins[4, 1] = begins[7] = True
        with sessions.create(server.address, series_count=2) as session:
            outputs = session.steps(table[:10], resets=begins)
            session.rewind(3)
            again = session.steps(table[3:10], resets=begins[3:])
            assert again.tobytes() == outputs[3:].tobytes()
            session.rewind(3)
            with pytest.raises(errors.StepConflictError):
                session.steps(table[3:10])

    def test_as_many_as_series_and_steps_are_wanted(
        self, sessions: Kind, server: ServerProcess, table: np.ndarray
    ) -> None:
        with sessions.create(server.address, series_count=2) as session:
            with pytest.raises(errors.UsageError, match="resets"):
                session.steps(table[:3], resets=np.zeros((2, 2), bool))
            assert session.next_step == 0


class TestMigrate:
    @pytest.fixture
    def two_versions(self, bundle: Bundle, cell: LiteRTCell) -> Iterator[InProcessServer]:
        models = [
            ServedModel.of(dataclasses.replace(bundle.card, version=version), cell, version * 64)
            for version in ("1", "2")
        ]
        with InProcessServer(models) as server:
            yield server

    def test_session_goes_on_with_its_state(
        self,
        sessions: Kind,
        two_versions: InProcessServer,
        frames: np.ndarray,
        expected: np.ndarray,
    ) -> None:
        with sessions.create(two_versions.address, model_version="1") as session:
            session.steps(frames[:20])
            session.migrate("2")
            assert (session.next_step, session.info.model_version) == (20, "2")
            assert session.model.version == "2"
            assert session.steps(frames[20:]).tobytes() == expected[20:].tobytes()

    def test_session_goes_on_with_a_state_that_was_burnt_in(
        self,
        sessions: Kind,
        two_versions: InProcessServer,
        cell: LiteRTCell,
        frames: np.ndarray,
    ) -> None:
        burning = frames[100:250]
        following = comparison.loop(cell, np.concatenate((burning, frames[20:40])))
        with sessions.create(two_versions.address, model_version="1") as session:
            session.steps(frames[:20])
            session.migrate("2", burn_in=burning)
            assert session.next_step == 20
            outputs = session.steps(frames[20:40])
        assert outputs.tobytes() == following[len(burning) :].tobytes()

"""B series that tick together: each series has the outputs of the plain loop over its frames."""

from __future__ import annotations

import time

import numpy as np
import pytest

from doubles.awaited_session import paced_loop
from tickcell.cli import comparison
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, errors
from tickcell.client.dropout import Policy
from tickcell.model import LiteRTCell

SERIES, TICKS, SENSOR = 3, 60, 2


@pytest.fixture(scope="module")
def series(frames: np.ndarray) -> np.ndarray:
    """The frames of all series, `[T, B, F]`."""
    parts = [frames[start : start + TICKS] for start in range(0, SERIES * TICKS, TICKS)]
    return np.stack(parts, axis=1)


def loops(cell: LiteRTCell, series: np.ndarray) -> np.ndarray:
    """What the plain loop makes of each series by itself, `[T, B, O]`."""
    return np.stack(
        [comparison.loop(cell, series[:, index]) for index in range(series.shape[1])], axis=1
    )


def test_each_series_of_a_tick_has_its_own_output(
    sessions: type[Session], server: ServerProcess, cell: LiteRTCell, series: np.ndarray
) -> None:
    with (
        sessions.create(server.address, series_count=SERIES) as session,
        paced_loop(session, rate_hz=50, budget_s=10.0) as loop,
    ):
        outputs = [loop.tick(frame) for frame in series]
    assert np.stack([np.asarray(output) for output in outputs]).tobytes() == (
        loops(cell, series).tobytes()
    )
    assert (loop.tick_count, loop.late_count) == (TICKS, 0)


def test_late_ticks_of_several_series_are_all_applied(
    sessions: type[Session], mortal_server: ServerProcess, cell: LiteRTCell, series: np.ndarray
) -> None:
    with sessions.create(mortal_server.address, series_count=SERIES) as session:
        with paced_loop(session, rate_hz=50, budget_s=0.001) as loop:
            loop.tick(series[0])
            mortal_server.kill()
            away = [loop.tick(frame) for frame in series[1:50]]
            mortal_server.restart()
        assert away == [None] * 49
        assert session.next_step == 50
        last = session.steps(series[50:])
        session.rewind(TICKS - session.info.window_step_count)
        stored = session.steps(series[session.next_step :])
    expected = loops(cell, series)
    assert last.tobytes() == expected[50:].tobytes()
    # The late ones among them have the outputs that they would have had in time.
    assert stored.tobytes() == expected[-len(stored) :].tobytes()
    assert loop.late_output_count == loop.late_count


def leave_late(session: Session, server: ServerProcess, series: np.ndarray) -> None:
    """Leaves a loop by an exception, after a tick that is late since the server is gone."""
    with paced_loop(session, rate_hz=50, budget_s=10.0) as loop:
        loop.tick(series[0])
        server.kill()
        # Ten seconds ago it was due.
        assert loop.tick(series[1], due=time.monotonic() - 10.0) is None
        raise KeyboardInterrupt


def test_frames_of_series_that_a_loop_leaves_are_there_to_be_sent(
    sessions: type[Session], mortal_server: ServerProcess, cell: LiteRTCell, series: np.ndarray
) -> None:
    with sessions.create(mortal_server.address, series_count=SERIES) as session:
        with pytest.raises(KeyboardInterrupt):
            leave_late(session, mortal_server, series)
        mortal_server.restart()
        assert session.unanswered.tolist() == series[1:2].tolist()
        outputs = session.steps(session.unanswered)
    assert outputs.tobytes() == loops(cell, series[:2])[1:].tobytes()


@pytest.mark.parametrize("policy", ["hold", "clip"])
def test_a_reading_of_one_series_is_mended_and_the_others_are_left_alone(
    sessions: type[Session],
    server: ServerProcess,
    cell: LiteRTCell,
    series: np.ndarray,
    policy: Policy,
) -> None:
    given, right = series.copy(), series.copy()
    top = cell.interface.sensors[SENSOR].max_reading
    for tick, index in ((5, 1), (9, 1), (9, 2)):
        given[tick, index, SENSOR] = np.inf
        right[tick, index, SENSOR] = top if policy == "clip" else given[tick - 1, index, SENSOR]
    with (
        sessions.create(server.address, series_count=SERIES, on_dropout=policy) as session,
        paced_loop(session, rate_hz=50, budget_s=10.0) as loop,
    ):
        outputs = np.stack([np.asarray(loop.tick(frame)) for frame in given])
        assert session.dropout_counts == {"lin_acc_z": 3}
        assert session.series_dropout_counts == {1: {"lin_acc_z": 2}, 2: {"lin_acc_z": 1}}
    assert outputs.tobytes() == loops(cell, right).tobytes()


def test_a_reading_of_one_series_that_is_refused_refuses_the_tick_of_all(
    sessions: type[Session], server: ServerProcess, cell: LiteRTCell, series: np.ndarray
) -> None:
    bad = series[3].copy()
    bad[1, SENSOR] = np.nan
    outputs = []
    with (
        sessions.create(server.address, series_count=SERIES) as session,
        paced_loop(session, rate_hz=50, budget_s=10.0) as loop,
    ):
        for frame in (*series[:3], bad, *series[3:10]):
            if frame is bad:
                with pytest.raises(
                    errors.FrameNotFiniteError, match="tick 3: step 3: series 1, lin_acc_z: got nan"
                ) as refused:
                    loop.tick(frame)
                assert (refused.value.metadata["tick"], refused.value.metadata["series"]) == (
                    "3",
                    "1",
                )
                continue
            outputs.append(np.asarray(loop.tick(frame)))
        with pytest.raises(errors.FrameShapeError, match=r"expected \[3, 10\]"):
            loop.tick(series[0, 0])
    assert np.stack(outputs).tobytes() == loops(cell, series[:10]).tobytes()
    assert loop.refused_count == 2

"""In a paced loop a late tick gets the safe action, and no frame is skipped or sent twice."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest

from doubles.awaited_session import paced_loop
from doubles.in_process_server import InProcessServer, served
from doubles.moody_cell import GIVES_NAN, MoodyCell
from tickcell.cli import comparison
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, errors
from tickcell.client.clock import Clock, paced
from tickcell.client.delivery import Outputs
from tickcell.client.dropout import Policy
from tickcell.client.needs import StreamOperation
from tickcell.client.pacing import Pacer
from tickcell.model import LiteRTCell

BUDGET = 0.02

_T = TypeVar("_T")


class Time:
    """A time that moves when somebody waits for it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.wait)

    def wait(self, seconds: float) -> None:
        self.now += seconds


class SlowSteps:
    """A pipeline whose server answers each step after a time of its own."""

    def __init__(self, time: Time, delays: list[float]) -> None:
        self._time = time
        self._delays = delays
        self._due: list[float] = []
        self._released = 0
        self.pushed: list[bytes] = []

    def push(self, *frames: bytes) -> int:
        (frame,) = frames
        step = len(self.pushed)
        # Outputs come in order: a slow one holds those behind it.
        due = self._time.now + self._delays[step]
        self._due.append(max(due, self._due[-1] if self._due else due))
        self.pushed.append(frame)
        return step

    def popping(self, timeout_s: float | None = None) -> StreamOperation[Outputs | None]:
        yield from ()
        if self._released == len(self.pushed):
            return None
        due = self._due[self._released]
        if timeout_s is not None and due > self._time.now + timeout_s:
            self._time.now += timeout_s
            return None
        self._time.now = max(self._time.now, due)
        return Outputs(self._released, b"output of " + self.pushed[self._released])

    def release(self) -> None:
        self._released += 1

    def drop_refused(self) -> bool:
        return False

    def finish(self) -> None:
        pass


def frame_of(index: int) -> bytes:
    return b"frame %d" % index


def done(operation: StreamOperation[_T]) -> _T:
    """Returns what an operation gives that needs nothing."""
    try:
        next(operation)
    except StopIteration as over:
        given: _T = over.value
        return given
    raise AssertionError("it needs something")


def drive(delays: list[float], finish: bool = True) -> tuple[list[str | None], Pacer, SlowSteps]:
    """Runs a paced loop over a server of these delays."""
    time = Time()
    steps = SlowSteps(time, delays)
    pacer = Pacer(steps, time.clock())
    outputs = []
    ticks = paced(((index * BUDGET, index) for index in range(len(delays))), time.clock())
    for due, index in ticks:
        output = done(pacer.tick(functools.partial(frame_of, index), due + BUDGET))
        outputs.append(None if output is None else output.decode())
    if finish:
        done(pacer.finish())
    return outputs, pacer, steps


def test_in_time_each_tick_has_its_own_output() -> None:
    outputs, pacer, _ = drive([0.001, 0.001, 0.001])
    assert outputs == [f"output of frame {index}" for index in range(3)]
    assert (pacer.ticks, pacer.late, pacer.late_outputs) == (3, 0, 0)


def test_a_late_tick_has_no_output_and_the_next_has_its_own() -> None:
    outputs, pacer, _ = drive([0.001, 0.025, 0.001, 0.001])
    assert outputs == ["output of frame 0", None, "output of frame 2", "output of frame 3"]
    assert (pacer.late, pacer.late_outputs) == (1, 1)


def test_no_frame_is_skipped_or_sent_twice_however_late() -> None:
    delays = [0.001, 0.2, *[0.001] * 20]
    _, _, steps = drive(delays)
    assert steps.pushed == [b"frame %d" % index for index in range(len(delays))]


def test_after_an_outage_the_newest_output_is_the_tick_s() -> None:
    outputs, pacer, _ = drive([0.001, 0.105, *[0.001] * 8])
    assert outputs[1:6] == [None] * 5
    assert outputs[6] == "output of frame 6"
    assert (pacer.late, pacer.late_outputs) == (5, 5)


def test_at_the_end_late_outputs_are_waited_for() -> None:
    _, pacer, _ = drive([0.001, 0.5, 0.001])
    assert (pacer.late, pacer.late_outputs) == (2, 2)


def test_items_are_yielded_at_their_times() -> None:
    time = Time()
    got = [(time.now, due, item) for due, item in paced([(7.0, "a"), (7.5, "b")], time.clock())]
    assert got == [(1000.0, 1000.0, "a"), (1000.5, 1000.5, "b")]


def test_who_is_late_gets_what_is_past_without_waiting_and_the_clock_does_not_slip() -> None:
    time = Time()
    got = []
    for due, _ in paced(((index / 10, index) for index in range(5)), time.clock()):
        got.append((round(time.now - 1000, 3), round(due - 1000, 3)))
        if len(got) == 2:
            time.now += 0.25
    assert got == [(0.0, 0.0), (0.1, 0.1), (0.35, 0.2), (0.35, 0.3), (0.4, 0.4)]


def test_against_a_server_each_tick_has_its_own_output(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with (
        sessions.create(server.address) as session,
        paced_loop(session, rate_hz=50, budget_s=10.0) as loop,
    ):
        outputs = [loop.tick(frame) for frame in frames[:50]]
    assert [np.asarray(output).tolist() for output in outputs] == expected[:50].tolist()
    assert (loop.tick_count, loop.late_count) == (50, 0)


def test_while_the_server_is_away_frames_wait_and_are_all_applied(
    sessions: type[Session], mortal_server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(mortal_server.address) as session:
        with paced_loop(session, rate_hz=50, budget_s=0.001) as loop:
            loop.tick(frames[0])
            mortal_server.kill()
            away = [loop.tick(frame) for frame in frames[1:100]]
            mortal_server.restart()
        assert away == [None] * 99
        assert session.next_step == 100
        assert session.step(frames[100]) == expected[100]
    assert loop.late_output_count == loop.late_count


def test_a_bounded_number_of_frames_waits(
    sessions: type[Session], mortal_server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(mortal_server.address) as session:
        with pytest.raises(errors.BacklogError, match="step 51 was not taken"):
            fill_backlog(session, mortal_server, frames)
        mortal_server.restart()
        # What waited is still there to be sent.
        assert len(session.unanswered) == 50
        session.steps(session.unanswered)
        assert len(session.unanswered) == 0
        assert session.step(frames[51]) == expected[51]


def fill_backlog(session: Session, server: ServerProcess, frames: np.ndarray) -> None:
    with paced_loop(session, rate_hz=50, budget_s=5.0, backlog_s=1.0) as loop:
        loop.tick(frames[0])
        server.kill()
    with paced_loop(session, rate_hz=50, budget_s=0.0, backlog_s=1.0) as loop:
        for frame in frames[1:]:
            loop.tick(frame)


def test_a_stream_of_a_source_that_cannot_wait_has_a_bound_too(
    sessions: type[Session], mortal_server: ServerProcess, frames: np.ndarray
) -> None:
    with sessions.create(mortal_server.address) as session:
        mortal_server.kill()
        with pytest.raises(errors.BacklogError):
            list(session.stream(iter(frames), backlog=40))
        # The one that was too many was drawn, so it is kept as well.
        assert session.unanswered.tolist() == frames[:41].tolist()
        mortal_server.restart()


def with_nan(frame: np.ndarray, sensor: int = 2) -> np.ndarray:
    bad = frame.copy()
    bad[sensor] = np.nan
    return bad


def test_a_tick_whose_frame_is_refused_says_which_and_the_loop_goes_on(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    outputs = []
    with (
        sessions.create(server.address) as session,
        paced_loop(session, rate_hz=50, budget_s=10.0) as loop,
    ):
        for tick in range(21):
            # A bad frame takes no step: the good ones are those of the loop.
            if tick == 10:
                with pytest.raises(
                    errors.FrameNotFiniteError, match=r"tick 10: step 10: lin_acc_z: got nan"
                ) as refused:
                    loop.tick(with_nan(frames[10]))
                metadata = refused.value.metadata
                assert (metadata["tick"], metadata["sensor"]) == ("10", "lin_acc_z")
                continue
            outputs.append(loop.tick(frames[tick - (tick > 10)]))
    assert [np.asarray(output).tolist() for output in outputs] == expected[:20].tolist()
    assert (loop.tick_count, loop.refused_count, loop.late_count) == (21, 1, 0)


def test_a_tick_s_frame_of_another_shape_is_refused_likewise(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with (
        sessions.create(server.address) as session,
        paced_loop(session, rate_hz=50, budget_s=10.0) as loop,
    ):
        with pytest.raises(errors.FrameShapeError, match="tick 0: "):
            loop.tick(frames[0][:9])
        assert np.asarray(loop.tick(frames[0])).tolist() == expected[0].tolist()


@pytest.mark.parametrize("budget_s", [10.0, 0.0])
def test_a_frame_that_only_the_server_can_refuse_is_refused_once(
    sessions: type[Session], budget_s: float
) -> None:
    """In time or late: its tick is named, it takes no step, and all others are applied."""
    refused: list[errors.RefusedError] = []
    with (
        InProcessServer([served(MoodyCell())]) as server,
        sessions.create(server.address) as session,
    ):
        try:
            with paced_loop(session, rate_hz=50, budget_s=budget_s) as loop:
                for reading in (1.0, GIVES_NAN, 2.0, 3.0):
                    try:
                        loop.tick([reading])
                    except errors.OutputNotFiniteError as error:
                        refused.append(error)
        except errors.OutputNotFiniteError as error:
            refused.append(error)
        assert (session.next_step, len(session.unanswered)) == (3, 0)
        session.rewind(0)
        assert session.steps([[1.0], [2.0], [3.0]]).tolist() == [[1.0], [1002.0], [2003.0 + 0]] or (
            session.next_step == 3
        )
    assert [error.metadata["tick"] for error in refused] == ["1"]
    assert loop.refused_count == 1


@pytest.mark.parametrize(
    ("on_dropout", "mended"), [("hold", lambda before, _: before), ("clip", lambda _, top: top)]
)
def test_readings_that_drop_out_are_mended_as_asked_and_counted(
    sessions: type[Session],
    server: ServerProcess,
    cell: LiteRTCell,
    frames: np.ndarray,
    on_dropout: Policy,
    mended: Callable[[float, float], float],
) -> None:
    sensor, given, right = 2, frames[:40].copy(), frames[:40].copy()
    top = cell.interface.sensors[sensor].max_reading
    given[5, sensor] = given[20, sensor] = np.inf
    right[5, sensor] = mended(float(frames[4, sensor]), top)
    right[20, sensor] = mended(float(frames[19, sensor]), top)
    expected = comparison.loop(cell, right)
    with sessions.create(server.address, on_dropout=on_dropout) as session:
        outputs = [session.step(frame) for frame in given[:10]]
        outputs += list(session.steps(given[10:15]))
        outputs += list(session.stream(iter(given[15:30])))
        with paced_loop(session, rate_hz=50, budget_s=10.0) as loop:
            outputs += [np.asarray(loop.tick(frame)) for frame in given[30:]]
        assert session.dropout_counts == {"lin_acc_z": 2}
    assert np.stack(outputs).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "options",
    [
        {"rate_hz": 0},
        {"rate_hz": -1},
        {"rate_hz": math.nan},
        {"rate_hz": math.inf},
        {"rate_hz": "50"},
        {"rate_hz": 50, "budget_s": -0.1},
        {"rate_hz": 50, "budget_s": math.nan},
        {"rate_hz": 50, "backlog_s": -1},
        {"rate_hz": 50, "backlog_s": math.nan},
    ],
    ids=str,
)
def test_what_cannot_be_a_pace_is_refused_at_once(
    sessions: type[Session], server: ServerProcess, options: dict[str, Any]
) -> None:
    name = list(options)[-1]
    with (
        sessions.create(server.address) as session,
        pytest.raises(errors.UsageError, match=f"^{name}: got "),
    ):
        paced_loop(session, **options)

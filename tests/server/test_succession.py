"""What is foreseen on a stream is read and answered as if it had been parsed and loaded."""

from __future__ import annotations

import contextlib
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.counting_cell import CountingCell
from doubles.moody_cell import GIVES_NAN, RAISES
from server.turns import World
from tickcell import wire
from tickcell.model import Cell
from tickcell.server import errors, messages, record, records
from tickcell.server.step import Step
from tickcell.server.store import Applied, Change
from tickcell.server.succession import Succession
from tickcell.v1 import session_service_pb2 as pb

TTL_S = 100


def encoded(step: Step) -> bytes:
    """Returns the request as a client that knows nothing of twins sends it."""
    return pb.StreamStepsRequest(
        session=step.session,
        generation=step.generation,
        first_step=step.first_step,
        step_count=step.step_count,
        frames=np.frombuffer(step.frames, "<f4").tolist(),
    ).SerializeToString()


def parsed(request: bytes) -> Step:
    return messages.step(wire.parse(wire.StreamStepsRequest, request), is_stream=True)


def asked_by(step: Step) -> tuple[object, ...]:
    """Returns all that a request asks."""
    return step.session, step.generation, step.first_step, step.step_count, step.frames


def answer(step: Step) -> tuple[object, ...]:
    if step.error is not None:
        return type(step.error), str(step.error)
    return step.start_step, step.outputs


class DeafCell(CountingCell):
    """Counts, and hears nothing: not even a NaN comes out again."""

    def step_rows(self, rows: bytes) -> bytes:
        readings = np.nan_to_num(np.frombuffer(rows, "<f4"))
        return super().step_rows(readings.tobytes())


class Stream:
    """A stream of sessions "a" and "b", whose requests are applied as they come."""

    def __init__(self, cell: Cell | None = None) -> None:
        self.world = World(cell=cell)
        self.generations = {session: self.create(session) for session in "ab"}
        self.world.create("companion")
        self.succession = Succession()

    def create(self, session: str) -> int:
        return self.world.create(session, idle_ttl_ns=TTL_S * 10**9).life.generation

    def record(self, session: str) -> bytes | None:
        (encoded,) = self.world.store.load([records.key(session)])
        return encoded

    def next_step(self, session: str) -> int:
        encoded = self.record(session)
        return 0 if encoded is None else record.decode(encoded).next_step

    def asked(self, session: str, first_step: int, frames: list[float]) -> Step:
        readings = np.array(frames, "<f4").tobytes()
        return Step(session, self.generations[session], first_step, len(frames), readings)

    def run(self, step: Step, *, in_company: bool) -> None:
        if in_company:
            companion = self.world.request("companion", self.next_step("companion"), [3.0])
            self.world.run(step, companion)
            assert companion.error is None
        else:
            self.world.turn.run_alone(step)

    def send(
        self, session: str, first_step: int, frames: list[float], *, in_company: bool = False
    ) -> bool:
        """Steps a session as the servicer does, and in the ordinary way; was it foreseen?

        What is foreseen is held to the parser, and its answer and the record that it
        leaves to those of a step that loads its session.
        """
        request = encoded(self.asked(session, first_step, frames))
        step = ordinary = parsed(request)
        foreseen = self.succession.read(request)
        if foreseen is not None:
            step = foreseen
            assert asked_by(step) == asked_by(ordinary)
            before = self.record(session)
            self.run(step, in_company=in_company)
            # Or else each would keep the one before it alive, and that one its own.
            assert step.guess is None
            after = self.record(session)
            # Back to where it was, under the turn's feet.
            assert before == after or self.world.store.commit(
                [Change(records.key(session), after, before)]
            ) == [Applied()]
        self.world.run(ordinary)
        if foreseen is not None:
            assert answer(step) == answer(ordinary)
            assert self.record(session) == after
        if step.error is None:
            expected = messages.answer(wire.StreamStepsResponse, ordinary)
            assert self.succession.answer(step) == expected
        self.succession.foresee(step)
        return foreseen is not None

    def disturb(self, session: str, event: str) -> None:
        """Does to a session what others may between two ticks; if it is alive."""
        sessions, generation = self.world.sessions, self.generations[session]
        with contextlib.suppress(errors.TickcellError):
            if event == "stepped":
                other = self.world.turn_over(self.world.catalogue)
                other.run_alone(self.asked(session, self.next_step(session), [1.0]))
            elif event == "touched":
                self.world.clock.advance(0.6 * TTL_S)
                sessions.touch(session, generation)
            elif event == "reset":
                sessions.reset(session, generation, str(uuid.uuid4()))
            elif event == "deleted":
                sessions.delete(session, generation)
            elif event == "idle":
                self.world.clock.advance(TTL_S)
            elif event == "created":
                self.create(session)
            elif event == "attached":
                self.generations[session] = sessions.get(session).life.generation


def test_third_step_in_a_row_is_foreseen_and_those_after_it() -> None:
    stream = Stream()
    foreseen = [stream.send("a", step, [float(step)]) for step in range(300)]
    assert foreseen == [False, False] + [True] * 298


def test_chunks_of_one_length_are_foreseen() -> None:
    stream = Stream()
    assert [stream.send("a", 4 * step, [1.0] * 4) for step in range(3)] == [False, False, True]


def test_sessions_that_alternate_are_never_foreseen() -> None:
    stream = Stream()
    foreseen = [stream.send(session, step, [1.0]) for step in range(5) for session in "ab"]
    assert foreseen == [False] * 10


def test_refused_step_is_still_foreseen_when_it_is_sent_again() -> None:
    stream = Stream()
    for step in range(2):
        stream.send("a", step, [1.0])
    assert [stream.send("a", 2, [reading]) for reading in (float("nan"), 1.0)] == [True, True]


def test_foreseen_step_is_not_loaded() -> None:
    stream = Stream()
    for step in range(2):
        stream.send("a", step, [1.0])
    foreseen = stream.succession.read(encoded(stream.asked("a", 2, [1.0])))
    assert foreseen is not None
    loads = stream.world.store.load_count
    stream.world.turn.run_alone(foreseen)
    assert foreseen.error is None
    assert stream.world.store.load_count == loads


def test_step_that_was_stored_already_is_no_guess_for_the_next() -> None:
    stream = Stream()
    for step in range(3):
        stream.send("a", step, [1.0])
    # Else the other's record would be the very bytes of ours, and as good as ours.
    stream.world.clock.advance(1)
    stream.disturb("a", "stepped")
    stream.world.clock.advance(1)
    stream.send("a", 3, [1.0])
    foreseen = stream.succession.read(encoded(stream.asked("a", 4, [1.0])))
    assert foreseen is not None
    assert foreseen.guess is None


def test_fault_on_a_guess_is_logged_before_the_step_begins_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = Stream()
    for step in range(3):
        stream.send("a", step, [1.0])
    caplog.clear()
    stream.send("a", 3, [RAISES])
    assert "a: a guess failed, begins anew: ArithmeticError" in caplog.text


@pytest.mark.parametrize("cut", range(1, 8))
def test_request_cut_short_is_not_foreseen(cut: int) -> None:
    stream = Stream()
    for step in range(2):
        stream.send("a", step, [1.0])
    request = encoded(stream.asked("a", 2, [1.0]))
    assert stream.succession.read(request) is not None
    assert stream.succession.read(request[:-cut]) is None
    assert stream.succession.read(request + request[-cut:]) is None


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("aaaab"),
            st.sampled_from(
                [None] * 8
                + ["stepped", "touched", "reset", "deleted", "idle", "created", "attached"]
            ),
            st.sampled_from([0, 0, 0, 0, 0, -1, -2, 1]),
            st.sampled_from([1, 1, 1, 2, 9]),
            st.sampled_from([1.0] * 8 + [2.0, 1000.0, RAISES, GIVES_NAN, float("inf")]),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_any_stream_is_read_and_answered_as_if_parsed_and_loaded(
    sent: list[tuple[str, str | None, int, int, float, bool]],
) -> None:
    stream = Stream()
    for session, event, offset, step_count, reading, in_company in sent:
        if event is not None:
            stream.disturb(session, event)
        first_step = stream.next_step(session) + offset
        frames = [reading] * step_count
        stream.send(session, max(first_step, 0), frames, in_company=in_company)


@pytest.mark.parametrize("event", ["none", "stepped", "touched", "reset", "deleted", "idle"])
@pytest.mark.parametrize("reading", [1.0, 2.0, 1000.0, RAISES, GIVES_NAN, float("nan")])
def test_session_that_others_may_have_changed_is_answered_as_it_is_now(
    event: str, reading: float
) -> None:
    stream = Stream()
    for step in range(3):
        stream.send("a", step, [1.0])
    stream.disturb("a", event)
    assert stream.send("a", 3, [reading])
    stream.send("a", stream.next_step("a"), [1.0])


def test_reading_that_is_not_finite_is_refused_though_the_cell_would_bear_it() -> None:
    stream = Stream(DeafCell())
    for step in range(3):
        stream.send("a", step, [1.0])
    assert stream.send("a", 3, [float("nan")])

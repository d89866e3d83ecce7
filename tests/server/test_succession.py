"""What is foreseen on a stream is read and answered as if it had been parsed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.turns import World
from tickcell import wire
from tickcell.server import messages
from tickcell.server.step import Step
from tickcell.server.succession import Succession
from tickcell.v1 import session_service_pb2 as pb


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


class Stream:
    """A stream of sessions "a" and "b", whose requests are applied as they come."""

    def __init__(self) -> None:
        self.world = World()
        self.world.create_all("a", "b")
        self.succession = Succession()

    def send(self, session: str, first_step: int, frames: list[float]) -> bool:
        """Steps a session, holds what is read and answered to the parser; was it foreseen?"""
        request = encoded(self.world.request(session, first_step, frames))
        foreseen = self.succession.read(request)
        assert foreseen is None or asked_by(foreseen) == asked_by(parsed(request))
        step = foreseen or parsed(request)
        self.world.run(step)
        if step.error is None:
            expected = messages.answer(wire.StreamStepsResponse, step)
            assert self.succession.answer(step) == expected
        return foreseen is not None


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


@pytest.mark.parametrize("cut", range(1, 8))
def test_request_cut_short_is_not_foreseen(cut: int) -> None:
    stream = Stream()
    for step in range(2):
        stream.send("a", step, [1.0])
    request = encoded(stream.world.request("a", 2, [1.0]))
    assert stream.succession.read(request) is not None
    assert stream.succession.read(request[:-cut]) is None
    assert stream.succession.read(request + request[-cut:]) is None


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("aaaab"),
            st.sampled_from([0, 0, 0, 0, 0, -1, -2, 1]),
            st.sampled_from([1, 1, 1, 2, 9]),
            st.sampled_from([1.0, 1.0, 2.0, float("inf")]),
        ),
        max_size=40,
    )
)
def test_any_stream_is_read_and_answered_as_if_parsed(
    sent: list[tuple[str, int, int, float]],
) -> None:
    stream = Stream()
    for session, offset, step_count, reading in sent:
        first_step = stream.world.next_step(session) + offset
        stream.send(session, max(first_step, 0), [reading] * step_count)

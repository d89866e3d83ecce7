"""What is foreseen on a stream is read and written as if it had been parsed and encoded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickcell.v1 import session_service_pb2 as pb
from tickcell.wire import history
from tickcell.wire.stream_codec import StepFields, StreamCodec


def encoded(asked: StepFields) -> bytes:
    """Returns the request as a client that knows nothing of twins sends it."""
    return pb.StreamStepsRequest(
        session=asked.session,
        generation=asked.generation,
        first_step=asked.first_step,
        step_count=asked.step_count,
        frames=np.frombuffer(asked.frames, "<f4").tolist(),
        expected_history=asked.expected_history,
    ).SerializeToString()


def response(asked: StepFields, outputs: bytes, last: bytes) -> bytes:
    """Returns the response as a server that knows nothing of twins sends it."""
    return pb.StreamStepsResponse(
        session=asked.session,
        generation=asked.generation,
        first_step=asked.first_step,
        step_count=asked.step_count,
        outputs=np.frombuffer(outputs, "<f4").tolist(),
        history=last,
    ).SerializeToString()


class Stream:
    """A stream on which everything is answered with its own readings."""

    def __init__(self) -> None:
        self.codec = StreamCodec()
        self.last_history = bytes(history.SIZE)

    def send(self, asked: StepFields) -> bool:
        """Reads and answers a request; was it foreseen?"""
        request = encoded(asked)
        found = self.codec.read(request)
        if found is not None:
            assert found == asked
            assert encoded(found) == request
        outputs = asked.frames
        chained = history.chain(self.last_history, asked.frames, asked.step_count)
        self.last_history = chained[-history.SIZE :]
        assert self.codec.write(asked, outputs, self.last_history) == response(
            asked, outputs, self.last_history
        )
        self.codec.foresee(asked, outputs, self.last_history)
        return found is not None

    def step(
        self, session: str, first_step: int, readings: list[float], *, expects: bool = True
    ) -> StepFields:
        return StepFields(
            session,
            7,
            first_step,
            len(readings),
            np.array(readings, "<f4").tobytes(),
            self.last_history if expects else None,
        )


@pytest.mark.parametrize("expects", [False, True])
def test_third_step_in_a_row_is_foreseen_and_those_after_it(*, expects: bool) -> None:
    stream = Stream()
    foreseen = [
        stream.send(stream.step("a", step, [float(step)], expects=expects)) for step in range(300)
    ]
    assert foreseen == [False, False] + [True] * 298


def test_chunks_of_one_length_are_foreseen() -> None:
    stream = Stream()
    foreseen = [stream.send(stream.step("a", 4 * step, [1.0] * 4)) for step in range(3)]
    assert foreseen == [False, False, True]


def test_stream_that_begins_or_ends_to_name_histories_is_foreseen_anew() -> None:
    stream = Stream()
    foreseen = [
        stream.send(stream.step("a", step, [1.0], expects=step in range(3, 6))) for step in range(9)
    ]
    assert foreseen == [False, False, True] * 3


def test_answer_of_another_size_than_the_one_before_is_written_whole() -> None:
    stream = Stream()
    for step in range(3):
        stream.send(stream.step("a", step, [1.0]))
    wider = stream.step("a", 3, [1.0, 2.0])._replace(step_count=1)
    assert not stream.send(wider)


def test_sessions_that_alternate_are_never_foreseen() -> None:
    stream = Stream()
    foreseen = [
        stream.send(stream.step(session, step, [1.0])) for step in range(5) for session in "ab"
    ]
    assert foreseen == [False] * 10


def test_another_history_than_was_answered_is_not_foreseen() -> None:
    stream = Stream()
    for step in range(3):
        stream.send(stream.step("a", step, [1.0]))
    asked = stream.step("a", 3, [1.0])
    assert stream.codec.read(encoded(asked)) == asked
    assert stream.codec.read(encoded(asked._replace(expected_history=b"another!"))) is None
    assert stream.codec.read(encoded(asked._replace(expected_history=None))) is None


@pytest.mark.parametrize("cut", range(1, 20))
def test_request_cut_short_or_drawn_out_is_not_foreseen(cut: int) -> None:
    stream = Stream()
    for step in range(2):
        stream.send(stream.step("a", step, [1.0]))
    request = encoded(stream.step("a", 2, [1.0]))
    assert stream.codec.read(request) is not None
    assert stream.codec.read(request[:-cut]) is None
    assert stream.codec.read(request + request[-cut:]) is None


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("aaaaab"),
            st.sampled_from([0, 0, 0, 0, 0, -1, -2, 1, 200, 2**40]),
            st.sampled_from([1, 1, 1, 2, 9]),
            st.sampled_from([1.0, 2.0, float("inf")]),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_any_stream_is_read_and_answered_as_if_parsed(
    sent: list[tuple[str, int, int, float, bool]],
) -> None:
    stream = Stream()
    next_steps = {"a": 0, "b": 0}
    for session, offset, step_count, reading, expects in sent:
        first_step = max(next_steps[session] + offset, 0)
        asked = stream.step(session, first_step, [reading] * step_count, expects=expects)
        stream.send(asked)
        next_steps[session] = first_step + step_count

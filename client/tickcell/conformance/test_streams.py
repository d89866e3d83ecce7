"""What is special about streams: order, sharing, and that a refusal ends nothing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import grpc
import pytest

from tickcell.conformance.caller import PATIENCE_S, Caller, StreamPath, refused_for
from tickcell.conformance.subject import WINDOW, Subject, encoded, refused
from tickcell.v1 import session_service_pb2 as pb

pytestmark = pytest.mark.contract(6)


@pytest.fixture
def stream(caller: Caller) -> Iterator[StreamPath]:
    with StreamPath(caller) as opened:
        yield opened


def test_requests_that_were_not_waited_for_are_answered_in_their_order(
    stream: StreamPath, subject: Subject
) -> None:
    for step in range(3 * WINDOW):
        stream.post(encoded(subject.request(stream, step)))
    for step in range(3 * WINDOW):
        subject.hold_answer(stream.receive(), step)


def test_sessions_share_a_stream(
    stream: StreamPath, subject: Subject, bystander: Subject, vector: Subject
) -> None:
    sharers = (subject, vector, bystander)
    for step in range(20):
        for sharer in sharers:
            stream.post(encoded(sharer.request(stream, step)))
    for step in range(20):
        for sharer in sharers:
            sharer.hold_answer(stream.receive(), step)


def test_refused_request_is_answered_in_its_turn(
    stream: StreamPath, subject: Subject, bystander: Subject
) -> None:
    stream.post(encoded(subject.request(stream, 0)))
    stream.post(encoded(subject.request(stream, 1, step_count=0)))
    stream.post(b"\xff")
    stream.post(encoded(bystander.request(stream, 0)))
    stream.post(encoded(subject.request(stream, 1)))
    subject.hold_answer(stream.receive(), 0)
    for reason in ("FRAME_SHAPE", "MALFORMED"):
        with refused_for(reason):
            stream.receive()
    bystander.hold_answer(stream.receive(), 0)
    subject.hold_answer(stream.receive(), 1)


def test_steps_behind_a_refused_one_are_gaps(stream: StreamPath, subject: Subject) -> None:
    stream.post(encoded(subject.request(stream, 0, step_count=0)))
    for step in (1, 2, 3):
        stream.post(encoded(subject.request(stream, step)))
    for reason in ("FRAME_SHAPE", "STEP_GAP", "STEP_GAP", "STEP_GAP"):
        with refused_for(reason):
            stream.receive()
    for step in range(4):
        subject.repeat(stream, step)


def test_refusal_names_its_request(stream: StreamPath, subject: Subject) -> None:
    stream.post(encoded(subject.request(stream, 7)))
    stream.post(b"\xff")
    named = pb.StreamStepsResponse.FromString(next(stream.call))
    nameless = pb.StreamStepsResponse.FromString(next(stream.call))
    assert named.HasField("error")
    assert nameless.HasField("error")
    assert (named.session, named.generation, named.first_step) == (
        subject.id,
        subject.generation,
        7,
    )
    assert (nameless.session, nameless.generation, nameless.first_step) == ("", 0, 0)


@pytest.mark.parametrize(
    "missing", [("generation",), ("first_step",), ("generation", "first_step")]
)
def test_stream_wants_both_indices(
    stream: StreamPath, subject: Subject, missing: tuple[str, ...]
) -> None:
    request = subject.request(stream, 0)
    for index in missing:
        request.ClearField(index)
    refusal = refused(stream, "ARGUMENT_INVALID", request)
    assert refusal.metadata["field"] == missing[0]
    subject.advance(stream)


def test_half_closed_stream_ends_once_all_is_answered(stream: StreamPath, subject: Subject) -> None:
    for step in range(10):
        stream.post(encoded(subject.request(stream, step)))
    stream.half_close()
    for step in range(10):
        subject.hold_answer(stream.receive(), step)
    assert stream.ends()


def test_stream_without_a_request_ends_well(stream: StreamPath) -> None:
    stream.half_close()
    assert stream.ends()


def test_cancelled_stream_leaves_what_it_applied_and_harms_no_other(
    caller: Caller, subject: Subject, bystander: Subject
) -> None:
    with StreamPath(caller) as other, StreamPath(caller) as cancelled:
        bystander.advance(other)
        subject.advance(cancelled)
        for step in range(1, WINDOW):
            cancelled.post(encoded(subject.request(cancelled, step)))
        cancelled.call.cancel()
        bystander.advance(other)
        # Whatever was applied of them: sending again is right.
        for step in range(1, WINDOW):
            subject.repeat(other, step)


def test_expired_call_leaves_what_it_applied_and_harms_no_other(
    caller: Caller, subject: Subject, bystander: Subject
) -> None:
    with StreamPath(caller) as other:
        bystander.advance(other)
        for step in range(10):
            # It may be too late before the step is applied, after it, or not at all.
            with contextlib.suppress(grpc.RpcError):
                caller.sessions.StepSession(subject.request(other, step), timeout=0.001)
            subject.repeat(other, step)
            bystander.advance(other)


def test_two_streams_that_send_the_same_frames_get_the_same_outputs(
    caller: Caller, subject: Subject
) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with StreamPath(caller) as stream:
                for step in range(60):
                    subject.repeat(stream, step)
                    barrier.wait(PATIENCE_S)
        except BaseException as error:  # noqa: BLE001 - the test's own thread fails for it.
            failures.append(error)
            barrier.abort()

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    assert subject.now.next_step == 60

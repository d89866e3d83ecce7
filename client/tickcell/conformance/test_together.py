"""What is special about several requests in a message: each is answered by itself, in its place."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tickcell.conformance.caller import (
    Caller,
    Refused,
    StreamPath,
    TogetherPath,
    UnaryPath,
    refused_for,
)
from tickcell.conformance.course import Course
from tickcell.conformance.subject import WINDOW, Subject, encoded
from tickcell.v1 import session_service_pb2 as pb

pytestmark = pytest.mark.contract(6)


@pytest.fixture
def together(caller: Caller) -> Iterator[TogetherPath]:
    with TogetherPath(caller) as opened:
        yield opened


@pytest.fixture
def subjects(caller: Caller, course: Course) -> list[Subject]:
    """Five sessions that have no step yet, one of them of three series."""
    return [Subject(caller, course, series_count=count) for count in (1, 1, 3, 1, 1)]


def advance(path: TogetherPath, subjects: list[Subject], count: int = 1) -> None:
    """Gives each its next frames in one message, and holds the answers to the loop."""
    repeat(path, subjects, subjects[0].next_step, count)
    for subject in subjects:
        subject.next_step += count


def repeat(path: TogetherPath, subjects: list[Subject], first_step: int, count: int = 1) -> None:
    """Sends some steps of each in one message, and holds the answers to the loop."""
    requests = [encoded(subject.request(path, first_step, count)) for subject in subjects]
    for subject, answer in zip(subjects, path.send_all(requests), strict=True):
        assert not answer.HasField("error"), Refused(answer.error).summary
        subject.hold_answer(answer, first_step, count)


@pytest.mark.contract("the promise, that outputs are those of the plain loop")
def test_sessions_that_step_together_have_the_outputs_of_their_loops(
    together: TogetherPath, subjects: list[Subject]
) -> None:
    for count in (1, 1, 3, 1, WINDOW, 2):
        advance(together, subjects, count)


@pytest.mark.contract(3)
def test_message_may_be_sent_again_whole_in_part_and_in_another_order(
    together: TogetherPath, subjects: list[Subject]
) -> None:
    for _ in range(3):
        advance(together, subjects)
    repeat(together, subjects, 2)
    repeat(together, subjects[1:4], 1, 2)
    repeat(together, subjects[::-1], 0, 3)
    advance(together, subjects)


@pytest.mark.contract(3)
def test_message_of_which_a_part_was_applied_before_applies_the_rest(
    caller: Caller, together: TogetherPath, subjects: list[Subject]
) -> None:
    with UnaryPath(caller) as unary, StreamPath(caller) as stream:
        subjects[1].repeat(unary, 0)
        subjects[3].repeat(stream, 0, 2)
    advance(together, subjects, 2)
    advance(together, subjects)


def test_requests_may_be_of_different_lengths(
    together: TogetherPath, subjects: list[Subject]
) -> None:
    counts = (1, WINDOW, 2, 5, 3)
    requests = [
        encoded(subject.request(together, 0, count))
        for subject, count in zip(subjects, counts, strict=True)
    ]
    answers = together.send_all(requests)
    for subject, answer, count in zip(subjects, answers, counts, strict=True):
        subject.hold_answer(answer, 0, count)


def test_refused_requests_are_answered_in_their_places_and_touch_no_other(
    together: TogetherPath, subjects: list[Subject], bystander: Subject, caller: Caller
) -> None:
    advance(together, subjects, 2)
    deleted = bystander
    caller.delete(deleted.id, deleted.generation)
    gap, shape, conflict, good, restarted = subjects
    requests: dict[str, Any] = {
        "": good.request(together, 2),
        "STEP_GAP": gap.request(together, 4),
        "FRAME_SHAPE": shape.request(together, 2, step_count=0),
        "STEP_CONFLICT": conflict.request(together, 1, frames=conflict.frames[3]),
        "SESSION_RESTARTED": restarted.request(together, 2, generation=1),
        "SESSION_DELETED": deleted.request(together, 0),
        "SESSION_UNKNOWN": good.request(together, 2, session=f"nobody-{uuid.uuid4()}"),
    }
    answers = together.send_all([encoded(each) for each in requests.values()])
    good.hold_answer(answers[0], 2)
    refusals = [Refused(answer.error) for answer in answers[1:]]
    assert ["", *(refusal.reason for refusal in refusals)] == [*requests]
    for answer, request in zip(answers, requests.values(), strict=True):
        named = (answer.session, answer.generation, answer.first_step)
        assert named == (request.session, request.generation, request.first_step)
    good.next_step += 1
    for subject in subjects:
        assert subject.now.next_step == subject.next_step
        subject.advance(together)


@pytest.mark.parametrize("missing", ["session", "generation", "first_step"])
def test_request_must_name_session_generation_and_step(
    together: TogetherPath, subjects: list[Subject], missing: str
) -> None:
    requests = [subject.request(together, 0) for subject in subjects]
    requests[2].ClearField(missing)
    answers = together.send_all([encoded(each) for each in requests])
    refusal = Refused(answers[2].error)
    refusal.hold("ARGUMENT_INVALID")
    assert refusal.metadata["field"] == missing
    for place in (0, 1, 3, 4):
        subjects[place].hold_answer(answers[place], 0)
    assert subjects[2].now.next_step == 0


@pytest.mark.parametrize("step", [0, 1])
def test_session_that_is_named_again_is_refused_there(
    together: TogetherPath, subject: Subject, bystander: Subject, step: int
) -> None:
    requests = [subject.request(together, 0), bystander.request(together, 0)]
    requests += [subject.request(together, step), subject.request(together, step)]
    first, other, *again = together.send_all([encoded(each) for each in requests])
    subject.hold_answer(first, 0)
    bystander.hold_answer(other, 0)
    for answer in again:
        refusal = Refused(answer.error)
        refusal.hold("ARGUMENT_INVALID")
        assert refusal.metadata["session"] == subject.id
        assert (answer.session, answer.first_step) == (subject.id, step)
    assert subject.now.next_step == 1


@pytest.mark.contract(10)
def test_message_without_requests_is_refused(together: TogetherPath) -> None:
    with refused_for("ARGUMENT_INVALID") as metadata:
        together.send_all([])
    assert metadata["field"] == "requests"


@pytest.mark.contract(10)
def test_bytes_that_are_no_message_are_refused(caller: Caller) -> None:
    method: Any = caller.channel.unary_unary("/tickcell.v1.SessionService/StepSessions")
    with refused_for("MALFORMED") as metadata:
        caller.call(method, b"\x0a\x7f")
    assert metadata["expected"] == pb.StepSessionsRequest.DESCRIPTOR.name


def test_streams_and_messages_of_the_same_sessions_get_the_same_outputs(
    caller: Caller, together: TogetherPath, subjects: list[Subject]
) -> None:
    with StreamPath(caller) as stream:
        for step in range(20):
            for subject in subjects[::2]:
                stream.post(encoded(subject.request(stream, step)))
            repeat(together, subjects, step)
            for subject in subjects[::2]:
                subject.hold_answer(stream.receive(), step)
    for subject in subjects:
        assert subject.now.next_step == 20
        assert subject.now.history == subject.history_before(20)

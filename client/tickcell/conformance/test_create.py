"""How sessions begin."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from google.protobuf import duration_pb2

from tickcell.conformance.caller import Caller, refused_for
from tickcell.conformance.course import Course
from tickcell.conformance.subject import Subject
from tickcell.v1 import model_service_pb2
from tickcell.v1 import session_service_pb2 as pb

pytestmark = pytest.mark.contract(1)

INT32_MAX = 2**31 - 1


def test_what_is_left_out_has_its_default(create: Any, served: model_service_pb2.Model) -> None:
    session = create()
    assert uuid.UUID(session.id).version == 4
    assert 1 <= session.generation < 2**53
    assert session.state == pb.SESSION_STATE_ACTIVE
    assert (session.next_step, session.numerics_start_step) == (0, 0)
    assert session.history == bytes(8)
    assert 1 <= session.max_step_count <= session.window_step_count
    assert session.series_count == 1
    if session.window_step_count != 32:
        # It is 32 wherever a window may be that long.
        with refused_for("ARGUMENT_INVALID") as metadata:
            create(window_step_count=32)
        assert session.window_step_count == int(metadata["max"])
    assert session.sensor_count == len(served.sensors)
    assert session.output_count == len(served.output_names)
    assert session.model_fingerprint == served.fingerprint
    assert session.renew_time == session.create_time
    idle_ns = session.idle_ttl_duration.ToNanoseconds()
    assert session.expire_time.ToNanoseconds() == session.renew_time.ToNanoseconds() + idle_ns
    assert not session.labels


def test_what_is_asked_for_is_what_is_shown(create: Any, caller: Caller) -> None:
    asked = {
        "session": f"Car_7.{uuid.uuid4()}",
        "series_count": 3,
        "window_step_count": 5,
        "idle_ttl_duration": duration_pb2.Duration(seconds=90, nanos=5),
        "labels": {"driver": "Zoë", "route": ""},
    }
    session = create(**asked)
    assert session.id == asked["session"]
    for field, value in asked.items():
        if field != "session":
            assert getattr(session, field) == value
    assert caller.get(session.id) == session


def test_session_that_never_expires_has_no_end(create: Any) -> None:
    session = create(never_expires=True)
    assert not session.HasField("expire_time")
    assert not session.HasField("idle_ttl_duration")


def test_generations_differ(create: Any) -> None:
    assert create().generation != create().generation


def test_request_id_becomes_the_id(create: Any) -> None:
    request_id = str(uuid.uuid4())
    assert create(request_id=request_id.upper()).id == request_id


def test_same_request_returns_the_session_it_created(create: Any, caller: Caller) -> None:
    request_id = str(uuid.uuid4())
    session = create(request_id=request_id)
    caller.touch(session.id, session.generation)
    assert create(request_id=request_id) == caller.get(session.id)


def test_same_request_returns_a_session_that_has_gone_on(
    path: Any, caller: Caller, course: Course
) -> None:
    request_id = str(uuid.uuid4())
    subject = Subject(caller, course, session=request_id, request_id=request_id)
    subject.advance(path, 3)
    again = Subject(caller, course, session=request_id, request_id=request_id)
    assert again.session == subject.now
    assert again.session.next_step == 3


def test_another_request_for_a_live_id_is_refused(create: Any, caller: Caller) -> None:
    session = create(request_id=str(uuid.uuid4()))
    with refused_for("SESSION_EXISTS") as metadata:
        create(session=session.id, request_id=str(uuid.uuid4()))
    assert int(metadata["generation"]) == session.generation
    with refused_for("SESSION_EXISTS"):
        create(session=session.id)
    assert caller.get(session.id) == session


def test_ended_id_can_be_created_anew(create: Any, caller: Caller) -> None:
    first = create()
    caller.delete(first.id, first.generation)
    second = create(session=first.id, window_step_count=3)
    assert second.generation != first.generation
    assert (second.next_step, second.window_step_count) == (0, 3)


def test_same_request_after_the_end_is_refused(create: Any, caller: Caller) -> None:
    request_id = str(uuid.uuid4())
    session = create(request_id=request_id)
    caller.delete(session.id, session.generation)
    with refused_for("SESSION_DELETED"):
        create(request_id=request_id)


@pytest.mark.parametrize("identifier", ["-a", ".a", "a b", "a/b", "é", "a\n", "a" * 64, "\0"])
def test_malformed_id_is_refused(create: Any, identifier: str) -> None:
    with refused_for("ARGUMENT_INVALID") as metadata:
        create(session=identifier)
    assert metadata["field"] == "session"


def test_longest_id_is_taken(create: Any) -> None:
    identifier = str(uuid.uuid4()).ljust(63, "z")
    assert create(session=identifier).id == identifier


@pytest.mark.parametrize("request_id", ["x", "1234", "z" * 36, "1" * 100_000])
def test_malformed_request_id_is_refused(create: Any, request_id: str) -> None:
    with refused_for("ARGUMENT_INVALID") as metadata:
        create(request_id=request_id)
    assert metadata["field"] == "request_id"


@pytest.mark.parametrize("field", ["window_step_count", "series_count"])
@pytest.mark.parametrize("value", [-INT32_MAX, -1, INT32_MAX])
def test_number_beyond_its_bounds_is_refused(create: Any, field: str, value: int) -> None:
    with refused_for("ARGUMENT_INVALID") as metadata:
        create(**{field: value})
    assert metadata["field"] == field
    assert int(metadata["got"]) == value
    assert int(metadata["min"]) == 1


@pytest.mark.parametrize(
    "duration",
    [
        duration_pb2.Duration(),
        duration_pb2.Duration(seconds=-1),
        duration_pb2.Duration(nanos=-1),
        duration_pb2.Duration(seconds=2**62),
        duration_pb2.Duration(seconds=-(2**62)),
    ],
    ids=str,
)
def test_time_to_live_beyond_its_bounds_is_refused(
    create: Any, duration: duration_pb2.Duration
) -> None:
    with refused_for("ARGUMENT_INVALID") as metadata:
        create(idle_ttl_duration=duration)
    assert metadata["field"] == "idle_ttl_duration"


def test_time_to_live_of_a_session_that_never_expires_is_refused(create: Any) -> None:
    with refused_for("ARGUMENT_INVALID"):
        create(never_expires=True, idle_ttl_duration=duration_pb2.Duration(seconds=1))


@pytest.mark.parametrize(
    "labels",
    [
        {f"key-{index}": "" for index in range(17)},
        {"": "value"},
        {"k" * 64: ""},
        {"k" * 100_000: ""},
        {"key": "v" * 256},
        {"key": "é" * 128},
    ],
    ids=["17", "empty key", "long key", "huge key", "long value", "long in bytes"],
)
def test_labels_beyond_their_bounds_are_refused(create: Any, labels: dict[str, str]) -> None:
    with refused_for("ARGUMENT_INVALID") as metadata:
        create(labels=labels)
    assert metadata["field"].startswith("labels")


def test_longest_labels_are_taken(create: Any) -> None:
    labels = {f"{index:063}": "v" * 255 for index in range(16)}
    assert create(labels=labels).labels == labels


@pytest.mark.parametrize("field", ["model", "model_version"])
@pytest.mark.parametrize("name", ["nothing-of-ours", "x" * 100_000], ids=["short", "huge"])
def test_model_that_is_not_served_is_refused(create: Any, field: str, name: str) -> None:
    with refused_for("MODEL_UNKNOWN"):
        create(**{field: name})


def test_refused_creation_creates_nothing(create: Any, caller: Caller) -> None:
    identifier = str(uuid.uuid4())
    with refused_for("ARGUMENT_INVALID"):
        create(session=identifier, series_count=-1)
    with refused_for("SESSION_UNKNOWN"):
        caller.get(identifier)

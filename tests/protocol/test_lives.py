"""How sessions begin, are shown, renewed, begin again and end."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2

from protocol.caller import CODES, Caller, Refused
from protocol.subject import Subject
from tickcell.model import Bundle
from tickcell.v1 import session_service_pb2 as pb

INT32_MAX = 2**31 - 1

UNARY_METHODS = (
    "CreateSession",
    "GetSession",
    "ListSessions",
    "TouchSession",
    "ResetSession",
    "DeleteSession",
    "StepSession",
)


@contextlib.contextmanager
def refused(reason: str) -> Iterator[dict[str, str]]:
    """Expects a refusal, and fills in its metadata."""
    metadata: dict[str, str] = {}
    with pytest.raises(Refused) as caught:
        yield metadata
    assert caught.value.reason == reason, caught.value
    metadata.update(caught.value.metadata)


def any_uuid() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def model(bundle: Bundle) -> dict[str, str]:
    """The fields that name the model."""
    return {"model": bundle.card.name, "model_version": bundle.card.version}


@pytest.fixture
def create(caller: Caller, model: dict[str, str]) -> Iterator[Any]:
    """Creates sessions, and deletes at the end what is left of them."""
    created: list[str] = []

    def create(**fields: Any) -> pb.Session:
        session = caller.create(**{**model, **fields})
        created.append(session.id)
        return session

    yield create
    for session in created:
        with contextlib.suppress(Refused):
            caller.delete(session, caller.get(session).generation)


class TestCreate:
    def test_what_is_left_out_has_its_default(self, create: Any, bundle: Bundle) -> None:
        session = create()
        assert uuid.UUID(session.id).version == 4
        assert 1 <= session.generation < 2**53
        assert session.state == pb.SESSION_STATE_ACTIVE
        assert (session.next_step, session.numerics_start_step) == (0, 0)
        assert (session.series_count, session.window_step_count) == (1, 32)
        assert session.sensor_count == bundle.interface.sensor_count
        assert session.output_count == bundle.interface.output_count
        assert session.model_fingerprint == bundle.fingerprint
        assert session.renew_time == session.create_time
        idle_ns = session.idle_ttl_duration.ToNanoseconds()
        assert session.expire_time.ToNanoseconds() == session.renew_time.ToNanoseconds() + idle_ns
        assert not session.labels

    def test_what_is_asked_for_is_what_is_shown(self, create: Any, caller: Caller) -> None:
        asked = {
            "session": f"Car_7.{any_uuid()}",
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

    def test_session_that_never_expires_has_no_end(self, create: Any) -> None:
        session = create(never_expires=True)
        assert not session.HasField("expire_time")
        assert not session.HasField("idle_ttl_duration")

    def test_generations_differ(self, create: Any) -> None:
        assert create().generation != create().generation

    def test_request_id_becomes_the_id(self, create: Any) -> None:
        request_id = any_uuid()
        assert create(request_id=request_id.upper()).id == request_id

    def test_same_request_returns_the_session_it_created(self, create: Any, caller: Caller) -> None:
        request_id = any_uuid()
        session = create(request_id=request_id)
        caller.touch(session.id, session.generation)
        assert create(request_id=request_id) == caller.get(session.id)

    def test_same_request_returns_a_session_that_has_gone_on(
        self, path: Any, caller: Caller, bundle: Bundle
    ) -> None:
        request_id = any_uuid()
        subject = Subject(caller, bundle, session=request_id, request_id=request_id)
        subject.advance(path, 3)
        again = Subject(caller, bundle, session=request_id, request_id=request_id)
        assert again.session == subject.now
        assert again.session.next_step == 3
        subject.clear()

    def test_another_request_for_a_live_id_is_refused(self, create: Any, caller: Caller) -> None:
        session = create(request_id=any_uuid())
        with refused("SESSION_EXISTS") as metadata:
            create(session=session.id, request_id=any_uuid())
        assert int(metadata["generation"]) == session.generation
        with refused("SESSION_EXISTS"):
            create(session=session.id)
        assert caller.get(session.id) == session

    def test_ended_id_can_be_created_anew(self, create: Any, caller: Caller) -> None:
        first = create()
        caller.delete(first.id, first.generation)
        second = create(session=first.id, window_step_count=3)
        assert second.generation != first.generation
        assert (second.next_step, second.window_step_count) == (0, 3)

    def test_same_request_after_the_end_is_refused(self, create: Any, caller: Caller) -> None:
        request_id = any_uuid()
        session = create(request_id=request_id)
        caller.delete(session.id, session.generation)
        with refused("SESSION_DELETED"):
            create(request_id=request_id)

    @pytest.mark.parametrize("identifier", ["-a", ".a", "a b", "a/b", "é", "a\n", "a" * 64, "\0"])
    def test_malformed_id_is_refused(self, create: Any, identifier: str) -> None:
        with refused("ARGUMENT_INVALID") as metadata:
            create(session=identifier)
        assert metadata["field"] == "session"

    def test_longest_id_is_taken(self, create: Any) -> None:
        identifier = any_uuid().ljust(63, "z")
        assert create(session=identifier).id == identifier

    @pytest.mark.parametrize("request_id", ["x", "1234", "z" * 36, "1" * 100_000])
    def test_malformed_request_id_is_refused(self, create: Any, request_id: str) -> None:
        with refused("ARGUMENT_INVALID") as metadata:
            create(request_id=request_id)
        assert metadata["field"] == "request_id"

    @pytest.mark.parametrize("field", ["window_step_count", "series_count"])
    @pytest.mark.parametrize("value", [-INT32_MAX, -1, INT32_MAX])
    def test_number_beyond_its_bounds_is_refused(self, create: Any, field: str, value: int) -> None:
        with refused("ARGUMENT_INVALID") as metadata:
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
        self, create: Any, duration: duration_pb2.Duration
    ) -> None:
        with refused("ARGUMENT_INVALID") as metadata:
            create(idle_ttl_duration=duration)
        assert metadata["field"] == "idle_ttl_duration"

    def test_time_to_live_of_a_session_that_never_expires_is_refused(self, create: Any) -> None:
        with refused("ARGUMENT_INVALID"):
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
    def test_labels_beyond_their_bounds_are_refused(
        self, create: Any, labels: dict[str, str]
    ) -> None:
        with refused("ARGUMENT_INVALID") as metadata:
            create(labels=labels)
        assert metadata["field"].startswith("labels")

    def test_longest_labels_are_taken(self, create: Any) -> None:
        labels = {f"{index:063}": "v" * 255 for index in range(16)}
        assert create(labels=labels).labels == labels

    @pytest.mark.parametrize("field", ["model", "model_version"])
    @pytest.mark.parametrize("name", ["nothing-of-ours", "x" * 100_000], ids=["short", "huge"])
    def test_model_that_is_not_served_is_refused(self, create: Any, field: str, name: str) -> None:
        with refused("MODEL_UNKNOWN"):
            create(**{field: name})

    def test_refused_creation_creates_nothing(self, create: Any, caller: Caller) -> None:
        identifier = any_uuid()
        with refused("ARGUMENT_INVALID"):
            create(session=identifier, series_count=-1)
        with refused("SESSION_UNKNOWN"):
            caller.get(identifier)


class TestShow:
    def test_session_that_never_was_is_unknown(self, caller: Caller) -> None:
        with refused("SESSION_UNKNOWN") as metadata:
            caller.get("nobody")
        assert metadata == {"session": "nobody"}

    @pytest.mark.parametrize("identifier", ["", "*", "é", "a" * 64, "x" * 100_000])
    def test_malformed_id_is_refused(self, caller: Caller, identifier: str) -> None:
        with refused("ARGUMENT_INVALID"):
            caller.get(identifier)

    def test_showing_a_session_changes_nothing(self, create: Any, caller: Caller) -> None:
        session = create()
        assert [caller.get(session.id) for _ in range(3)] == [session] * 3

    @pytest.mark.parametrize("size", [1, 2, 3, 1000, INT32_MAX])
    def test_pages_list_each_live_session_once_in_order(
        self, create: Any, caller: Caller, size: int
    ) -> None:
        prefix = any_uuid()
        ours = [create(session=f"{prefix}.{index}") for index in range(5)]
        caller.delete(ours[2].id, ours[2].generation)
        listed: list[pb.Session] = []
        token = ""
        while True:
            page = caller.call(
                caller.sessions.ListSessions,
                pb.ListSessionsRequest(page_size=size, page_token=token),
            )
            assert len(page.sessions) <= min(size, 1000)
            listed.extend(page.sessions)
            token = page.next_page_token
            if not token:
                break
        assert [session.id for session in listed] == sorted(session.id for session in listed)
        assert [session for session in listed if session.id.startswith(prefix)] == [
            session for index, session in enumerate(ours) if index != 2
        ]

    def test_negative_page_size_is_refused(self, caller: Caller) -> None:
        with refused("ARGUMENT_INVALID") as metadata:
            caller.call(caller.sessions.ListSessions, pb.ListSessionsRequest(page_size=-1))
        assert metadata == {"field": "page_size", "got": "-1"}

    @pytest.mark.parametrize(
        "token", ["no token", "é", "_w==", "YWJj\n", "YQ" * 50_000], ids=lambda token: token[:8]
    )
    def test_foreign_page_token_is_refused(self, caller: Caller, token: str) -> None:
        with refused("ARGUMENT_INVALID") as metadata:
            caller.call(caller.sessions.ListSessions, pb.ListSessionsRequest(page_token=token))
        assert metadata["field"] == "page_token"


class TestTouch:
    def test_touch_renews_and_does_no_more(self, create: Any, caller: Caller) -> None:
        session = create()
        touched = caller.touch(session.id, session.generation)
        assert touched == caller.get(session.id)
        assert touched.expire_time.ToNanoseconds() > session.expire_time.ToNanoseconds()
        for field in ("renew_time", "expire_time"):
            touched.ClearField(field)
            session.ClearField(field)
        assert touched == session


class TestReset:
    def test_session_begins_again_under_a_new_generation(
        self, path: Any, subject: Subject, caller: Caller
    ) -> None:
        subject.advance(path, 5)
        before = subject.now
        started = caller.reset(subject.id, subject.generation, any_uuid())
        assert started == subject.now
        assert started.generation != before.generation
        assert started.next_step == 0
        for field in ("generation", "next_step", "renew_time", "expire_time"):
            started.ClearField(field)
            before.ClearField(field)
        assert started == before

    def test_new_life_has_the_outputs_of_a_new_loop(self, path: Any, subject: Subject) -> None:
        for _ in range(2):
            subject.next_step = 0
            subject.advance(path, 5)
            subject.advance(path, 5)
            subject.repeat(path, 4, 2)
            subject.generation = subject.caller.reset(
                subject.id, subject.generation, any_uuid()
            ).generation

    def test_same_request_returns_the_life_it_began(
        self, path: Any, subject: Subject, caller: Caller
    ) -> None:
        request_id = any_uuid()
        old = subject.generation
        subject.generation = caller.reset(subject.id, old, request_id).generation
        subject.advance(path, 2)
        now = subject.now
        assert caller.reset(subject.id, old, request_id) == now
        assert caller.reset(subject.id, old, request_id.upper()) == now
        assert subject.now == now

    def test_another_request_for_the_old_life_is_refused(
        self, subject: Subject, caller: Caller
    ) -> None:
        now = caller.reset(subject.id, subject.generation, any_uuid())
        with refused("SESSION_RESTARTED") as metadata:
            caller.reset(subject.id, subject.generation, any_uuid())
        assert int(metadata["generation"]) == now.generation
        assert subject.now == now

    @pytest.mark.parametrize("request_id", ["", "x"])
    def test_reset_without_a_request_id_is_refused(
        self, subject: Subject, caller: Caller, request_id: str
    ) -> None:
        with refused("ARGUMENT_INVALID") as metadata:
            caller.reset(subject.id, subject.generation, request_id)
        assert metadata["field"] == "request_id"
        assert subject.now == subject.session


class TestDelete:
    def test_deleted_session_is_gone_and_known_to_be(
        self, subject: Subject, caller: Caller
    ) -> None:
        caller.delete(subject.id, subject.generation)
        with refused("SESSION_DELETED") as metadata:
            caller.get(subject.id)
        assert int(metadata["generation"]) == subject.generation

    def test_same_life_can_be_deleted_again(self, subject: Subject, caller: Caller) -> None:
        for _ in range(3):
            caller.delete(subject.id, subject.generation)

    def test_late_deletion_leaves_a_new_life_alone(
        self, subject: Subject, create: Any, caller: Caller
    ) -> None:
        caller.delete(subject.id, subject.generation)
        new = create(session=subject.id)
        with refused("SESSION_RESTARTED"):
            caller.delete(subject.id, subject.generation)
        assert caller.get(subject.id) == new

    def test_deletion_of_another_life_of_an_ended_session_is_refused(
        self, subject: Subject, caller: Caller
    ) -> None:
        caller.delete(subject.id, subject.generation)
        with refused("SESSION_DELETED"):
            caller.delete(subject.id, subject.generation + 1)


class TestEveryMethod:
    """What holds for touch, reset and delete alike."""

    @pytest.fixture(params=["touch", "reset", "delete"])
    def change(self, request: pytest.FixtureRequest, caller: Caller) -> Any:
        if request.param == "reset":
            return lambda session, generation: caller.reset(session, generation, any_uuid())
        return getattr(caller, request.param)

    def test_another_generation_is_refused(self, change: Any, subject: Subject) -> None:
        with refused("SESSION_RESTARTED") as metadata:
            change(subject.id, subject.generation + 1)
        assert int(metadata["got_generation"]) == subject.generation + 1
        assert int(metadata["generation"]) == subject.generation
        assert subject.now == subject.session

    @pytest.mark.parametrize("generation", [0, -1])
    def test_no_generation_is_refused(self, change: Any, subject: Subject, generation: int) -> None:
        with refused("ARGUMENT_INVALID") as metadata:
            change(subject.id, generation)
        assert metadata["field"] == "generation"
        assert subject.now == subject.session

    def test_unknown_session_is_refused(self, change: Any) -> None:
        with refused("SESSION_UNKNOWN"):
            change("nobody", 1)

    def test_malformed_id_is_refused(self, change: Any) -> None:
        with refused("ARGUMENT_INVALID"):
            change("*", 1)

    def test_expired_session_is_refused(self, change: Any, caller: Caller, bundle: Bundle) -> None:
        subject = Subject(caller, bundle, idle_ttl_duration=duration_pb2.Duration(nanos=50_000_000))
        subject.wait_until_ended()
        with refused("SESSION_EXPIRED"):
            change(subject.id, subject.generation)

    @pytest.mark.parametrize("method", UNARY_METHODS)
    @pytest.mark.parametrize(
        "request_",
        # Field 1 or field 2 is text in each message.
        [b"\xff", b"\x0a\x02\xc3\x28\x12\x02\xc3\x28"],
        ids=["bytes", "text"],
    )
    def test_bytes_that_are_no_message_are_refused(
        self, caller: Caller, method: str, request_: bytes
    ) -> None:
        call: Any = caller.channel.unary_unary(f"/tickcell.v1.SessionService/{method}")
        with pytest.raises(Refused) as caught:
            caller.call(call, request_)
        assert caught.value.reason == "MALFORMED"
        assert caught.value.metadata == {"expected": f"{method}Request"}

    def test_method_that_does_not_exist_is_for_grpc_to_refuse(self, caller: Caller) -> None:
        call: Any = caller.channel.unary_unary("/tickcell.v1.SessionService/ForkSession")
        with pytest.raises(grpc.RpcError) as caught:
            caller.call(call, b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_table_of_reasons_is_that_of_the_contract() -> None:
    from tickcell.v1 import error_reason_pb2

    reasons = {
        name.removeprefix("ERROR_REASON_")
        for name in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118
    }
    assert set(CODES) == reasons - {"UNSPECIFIED"}

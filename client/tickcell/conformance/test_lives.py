"""How sessions are shown, renewed, begin again and end."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2

from tickcell.conformance.caller import Caller, refused_for
from tickcell.conformance.course import Course
from tickcell.conformance.subject import Subject
from tickcell.v1 import session_service_pb2 as pb

pytestmark = pytest.mark.contract(7)

INT32_MAX = 2**31 - 1
# Of no session, on whatever server.
NOBODY = f"nobody-{uuid.uuid4()}"
# Pages of a few sessions are many pages where others have sessions, too.
MOST_SESSIONS = 500

UNARY_METHODS = (
    "CreateSession",
    "GetSession",
    "ListSessions",
    "TouchSession",
    "ResetSession",
    "ClaimSession",
    "ForkSession",
    "ExportSession",
    "MigrateSession",
    "DeleteSession",
    "GetOutputs",
    "PreviewSteps",
    "StepSession",
)


class TestShow:
    def test_session_that_never_was_is_unknown(self, create: Any, caller: Caller) -> None:
        with refused_for("SESSION_UNKNOWN") as metadata:
            caller.get(NOBODY)
        assert metadata.pop("store_id") == create().store_id
        assert metadata == {"session": NOBODY}

    @pytest.mark.parametrize("identifier", ["", "*", "é", "a" * 64, "x" * 100_000])
    def test_malformed_id_is_refused(self, caller: Caller, identifier: str) -> None:
        with refused_for("ARGUMENT_INVALID"):
            caller.get(identifier)

    def test_showing_a_session_changes_nothing(self, create: Any, caller: Caller) -> None:
        session = create()
        assert [caller.get(session.id) for _ in range(3)] == [session] * 3

    @pytest.mark.parametrize("size", [1, 2, 3, 1000, INT32_MAX])
    def test_pages_list_each_live_session_once_in_order(
        self, create: Any, caller: Caller, size: int
    ) -> None:
        everyone = caller.call(caller.sessions.ListSessions, pb.ListSessionsRequest(page_size=1000))
        if size < 1000 and len(everyone.sessions) > MOST_SESSIONS:
            pytest.skip(f"would be too many pages; the server has over {MOST_SESSIONS} sessions")
        prefix = str(uuid.uuid4())
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
        keys = [(session.owner, session.id) for session in listed]
        assert keys == sorted(keys)
        assert [session for session in listed if session.id.startswith(prefix)] == [
            session for index, session in enumerate(ours) if index != 2
        ]

    def test_negative_page_size_is_refused(self, caller: Caller) -> None:
        with refused_for("ARGUMENT_INVALID") as metadata:
            caller.call(caller.sessions.ListSessions, pb.ListSessionsRequest(page_size=-1))
        assert (metadata["field"], metadata["got"]) == ("page_size", "-1")

    @pytest.mark.parametrize(
        "token", ["no token", "é", "_w==", "YWJj\n", "YQ" * 50_000], ids=lambda token: token[:8]
    )
    def test_foreign_page_token_is_refused(self, caller: Caller, token: str) -> None:
        with refused_for("ARGUMENT_INVALID") as metadata:
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
        started = caller.reset(subject.id, subject.generation, str(uuid.uuid4()))
        assert started == subject.now
        assert started.generation != before.generation
        assert (started.next_step, started.history) == (0, bytes(8))
        for field in ("generation", "next_step", "history", "renew_time", "expire_time"):
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
                subject.id, subject.generation, str(uuid.uuid4())
            ).generation

    def test_same_request_returns_the_life_it_began(
        self, path: Any, subject: Subject, caller: Caller
    ) -> None:
        request_id = str(uuid.uuid4())
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
        now = caller.reset(subject.id, subject.generation, str(uuid.uuid4()))
        with refused_for("SESSION_RESTARTED") as metadata:
            caller.reset(subject.id, subject.generation, str(uuid.uuid4()))
        assert int(metadata["generation"]) == now.generation
        assert subject.now == now

    @pytest.mark.parametrize("request_id", ["", "x"])
    def test_reset_without_a_request_id_is_refused(
        self, subject: Subject, caller: Caller, request_id: str
    ) -> None:
        with refused_for("ARGUMENT_INVALID") as metadata:
            caller.reset(subject.id, subject.generation, request_id)
        assert metadata["field"] == "request_id"
        assert subject.now == subject.session


class TestDelete:
    def test_deleted_session_is_gone_and_known_to_be(
        self, subject: Subject, caller: Caller
    ) -> None:
        caller.delete(subject.id, subject.generation)
        with refused_for("SESSION_DELETED") as metadata:
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
        with refused_for("SESSION_RESTARTED"):
            caller.delete(subject.id, subject.generation)
        assert caller.get(subject.id) == new

    def test_deletion_of_another_life_of_an_ended_session_is_refused(
        self, subject: Subject, caller: Caller
    ) -> None:
        caller.delete(subject.id, subject.generation)
        with refused_for("SESSION_DELETED"):
            caller.delete(subject.id, subject.generation + 1)


class TestEveryMethod:
    """What holds for touch, reset, claim and delete, and for what changes nothing."""

    @pytest.fixture(
        params=[
            "touch",
            "reset",
            "claim",
            "fork",
            "export",
            "migrate",
            "delete",
            "outputs",
            "preview",
        ]
    )
    def change(self, request: pytest.FixtureRequest, caller: Caller) -> Any:
        if request.param == "reset":
            return lambda session, generation: caller.reset(session, generation, str(uuid.uuid4()))
        if request.param == "preview":
            return lambda session, generation: caller.preview(
                session, generation, step=0, step_count=1
            )
        return getattr(caller, request.param)

    def test_another_generation_is_refused(self, change: Any, subject: Subject) -> None:
        with refused_for("SESSION_RESTARTED") as metadata:
            change(subject.id, subject.generation + 1)
        assert int(metadata["got_generation"]) == subject.generation + 1
        assert int(metadata["generation"]) == subject.generation
        assert subject.now == subject.session

    @pytest.mark.parametrize("generation", [0, -1])
    def test_no_generation_is_refused(self, change: Any, subject: Subject, generation: int) -> None:
        with refused_for("ARGUMENT_INVALID") as metadata:
            change(subject.id, generation)
        assert metadata["field"] in ("generation", "source_generation")
        assert subject.now == subject.session

    def test_unknown_session_is_refused(self, change: Any) -> None:
        with refused_for("SESSION_UNKNOWN"):
            change(NOBODY, 1)

    def test_malformed_id_is_refused(self, change: Any) -> None:
        with refused_for("ARGUMENT_INVALID"):
            change("*", 1)

    @pytest.mark.contract(8)
    def test_expired_session_is_refused(self, change: Any, caller: Caller, course: Course) -> None:
        subject = Subject(caller, course, idle_ttl_duration=duration_pb2.Duration(nanos=50_000_000))
        subject.wait_until_ended()
        with refused_for("SESSION_EXPIRED"):
            change(subject.id, subject.generation)

    @pytest.mark.contract(10)
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
        with refused_for("MALFORMED") as metadata:
            caller.call(call, request_)
        assert metadata == {"expected": f"{method}Request"}

    def test_method_that_does_not_exist_is_for_grpc_to_refuse(self, caller: Caller) -> None:
        call: Any = caller.channel.unary_unary("/tickcell.v1.SessionService/SplitSession")
        with pytest.raises(grpc.RpcError) as caught:
            caller.call(call, b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

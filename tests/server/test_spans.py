"""Spans tell what became of each request, under the parent that its caller names."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from doubles.moody_cell import RAISES, MoodyCell
from server.serve_process import PATIENCE_S, ServeProcess, command
from tickcell.conformance.caller import Caller, StreamPath, TogetherPath, UnaryPath, refused_for
from tickcell.server.monitoring.spans import Spans
from tickcell.v1 import session_service_pb2 as pb

SESSIONS = "tickcell.v1.SessionService"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


class Scene:
    """A traced server and a caller.

    Attributes:
      caller: of the server.
      server: it.
      session: one that is live.
    """

    def __init__(self, server: InProcessServer, caller: Caller, sent: InMemorySpanExporter) -> None:
        self.server, self.caller, self._sent = server, caller, sent
        self.session = caller.create()

    def sent(self) -> list[ReadableSpan]:
        """Stops the server, and returns the spans of all but creations."""
        self.server.stop()
        spans = self._sent.get_finished_spans()
        return [span for span in spans if not span.name.endswith("/CreateSession")]

    def request(
        self, first_step: int, kind: type[Any] = pb.StepSessionRequest, reading: float = 1.0
    ) -> bytes:
        """Returns an encoded request for one step."""
        message: Message = kind(
            session=self.session.id,
            generation=self.session.generation,
            first_step=first_step,
            step_count=1,
            frames=[reading],
        )
        return message.SerializeToString()


@pytest.fixture
def scene() -> Iterator[Scene]:
    sent = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(sent))
    spans = Spans(provider)
    with contextlib.closing(spans):
        models = [served(MoodyCell())]
        with InProcessServer(models, spans=spans) as server, Caller(server.address) as caller:
            yield Scene(server, caller, sent)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


class TestUnary:
    def test_each_call_has_a_span_of_its_method(self, scene: Scene) -> None:
        scene.caller.get(scene.session.id)
        (span,) = scene.sent()
        assert span.name == f"{SESSIONS}/GetSession"
        assert span.kind is SpanKind.SERVER
        assert span.parent is None
        assert attributes(span) == {
            "rpc.system": "grpc",
            "rpc.service": SESSIONS,
            "rpc.method": "GetSession",
            "rpc.grpc.status_code": 0,
            "tickcell.session": scene.session.id,
        }

    def test_step_is_told_by_its_index(self, scene: Scene) -> None:
        with UnaryPath(scene.caller) as path:
            path.send(scene.request(0))
        (span,) = scene.sent()
        assert span.name == f"{SESSIONS}/StepSession"
        assert attributes(span)["tickcell.first_step"] == 0
        assert attributes(span)["tickcell.step_count"] == 1

    def test_refusal_of_the_caller_s_doing_is_no_error_of_the_server(self, scene: Scene) -> None:
        with refused_for("SESSION_UNKNOWN"):
            scene.caller.get("nobody")
        (span,) = scene.sent()
        assert attributes(span)["error.type"] == "SESSION_UNKNOWN"
        assert attributes(span)["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
        assert span.status.status_code is StatusCode.UNSET

    def test_fault_is_an_error_of_the_server(self, scene: Scene) -> None:
        with UnaryPath(scene.caller) as path, refused_for("INTERNAL"):
            path.send(scene.request(0, reading=RAISES))
        (span,) = scene.sent()
        assert attributes(span)["error.type"] == "INTERNAL"
        assert span.status.status_code is StatusCode.ERROR

    def test_message_of_several_requests_has_one_span_with_an_event_for_each_refusal(
        self, scene: Scene
    ) -> None:
        kind = pb.StreamStepsRequest
        with TogetherPath(scene.caller) as path:
            path.send_all([scene.request(0, kind), scene.request(1, kind), b"\xff"])
        (span,) = scene.sent()
        assert span.name == f"{SESSIONS}/StepSessions"
        told = attributes(span)
        assert (told["tickcell.request_count"], told["tickcell.step_count"]) == (1, 1)
        assert told["rpc.grpc.status_code"] == 0
        assert "tickcell.session" not in told
        reasons = [
            (event.name, dict(event.attributes or {})["error.type"]) for event in span.events
        ]
        assert reasons == [
            ("tickcell.refused", "ARGUMENT_INVALID"),
            ("tickcell.refused", "MALFORMED"),
        ]

    def test_bytes_that_are_no_message_have_a_span_too(self, scene: Scene) -> None:
        with UnaryPath(scene.caller) as path, refused_for("MALFORMED"):
            path.send(b"\xff")
        (span,) = scene.sent()
        assert attributes(span)["error.type"] == "MALFORMED"


class TestParent:
    def test_span_is_a_child_of_the_caller_s(self, scene: Scene) -> None:
        request = pb.GetSessionRequest(session=scene.session.id)
        scene.caller.sessions.GetSession(request, metadata=[("traceparent", PARENT)])
        (span,) = scene.sent()
        assert span.parent is not None
        assert f"{span.parent.trace_id:032x}" == PARENT.split("-")[1]
        assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
        assert span.context is not None
        assert span.context.trace_id == span.parent.trace_id

    def test_caller_that_does_not_sample_has_no_span(self, scene: Scene) -> None:
        request = pb.GetSessionRequest(session=scene.session.id)
        scene.caller.sessions.GetSession(request, metadata=[("traceparent", UNSAMPLED)])
        assert scene.sent() == []

    @pytest.mark.parametrize("parent", ["", "00-zz", "x" * 5000, PARENT[:-1], "00-0-0-0"])
    def test_parent_that_is_none_is_ignored(self, scene: Scene, parent: str) -> None:
        request = pb.GetSessionRequest(session=scene.session.id)
        scene.caller.sessions.GetSession(
            request, metadata=[("traceparent", parent), ("traceparent-bin", b"\xff")]
        )
        (span,) = scene.sent()
        assert span.parent is None


class TestStream:
    def test_each_request_has_a_span_under_the_stream_s_parent(self, scene: Scene) -> None:
        method: Any = scene.caller.channel.stream_stream(f"/{SESSIONS}/StreamSteps")
        requests = [scene.request(step, pb.StreamStepsRequest) for step in range(3)]
        answers = list(method(iter(requests), metadata=[("traceparent", PARENT)]))
        assert len(answers) == 3
        spans = scene.sent()
        assert [attributes(span)["tickcell.first_step"] for span in spans] == [0, 1, 2]
        for span in spans:
            assert span.name == f"{SESSIONS}/StreamSteps"
            assert span.parent is not None
            assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
        # One after the other, since none begins before the last is answered.
        times = [time for span in spans for time in (span.start_time or 0, span.end_time or 0)]
        assert times == sorted(times)

    def test_refused_request_ends_its_span_and_not_the_next(self, scene: Scene) -> None:
        with StreamPath(scene.caller) as path:
            with refused_for("STEP_GAP"):
                path.send(scene.request(5, pb.StreamStepsRequest))
            path.send(scene.request(0, pb.StreamStepsRequest))
            path.half_close()
            assert path.ends()
        refused, applied = scene.sent()
        assert attributes(refused)["error.type"] == "STEP_GAP"
        assert "error.type" not in attributes(applied)
        assert attributes(applied)["rpc.grpc.status_code"] == 0

    def test_stream_that_a_drain_ends_leaves_no_span_open(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        with StreamPath(scene.caller) as path:
            path.send(scene.request(0, pb.StreamStepsRequest))
            scene.server.stop()
            with refused_for("DRAINING"):
                path.receive()
        (span,) = scene.sent()
        assert attributes(span)["tickcell.first_step"] == 0
        assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []

    def test_two_streams_do_not_mix_up_their_spans(self, scene: Scene) -> None:
        other = scene.caller.create()
        with StreamPath(scene.caller) as first, StreamPath(scene.caller) as second:
            for step in range(3):
                first.post(scene.request(step, pb.StreamStepsRequest))
                second.post(
                    pb.StreamStepsRequest(
                        session=other.id,
                        generation=other.generation,
                        first_step=step,
                        step_count=1,
                        frames=[2.0],
                    ).SerializeToString()
                )
            for path in (first, second):
                for _ in range(3):
                    path.receive()
                path.half_close()
                assert path.ends()
        steps = [
            (attributes(span)["tickcell.session"], attributes(span)["tickcell.first_step"])
            for span in scene.sent()
        ]
        assert sorted(steps) == sorted(
            (session, step) for session in (scene.session.id, other.id) for step in range(3)
        )


def test_health_and_reflection_have_no_span(scene: Scene) -> None:
    check: Any = scene.caller.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert check(b"") == b"\x08\x01"
    reflect: Any = scene.caller.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    assert len(list(reflect(iter([b""])))) == 1
    assert scene.sent() == []


def test_server_without_spans_serves_the_handlers_as_they_are() -> None:
    with InProcessServer([served(CountingCell())]) as server:
        assert server.observer.spans is None


def test_collector_that_is_away_holds_up_neither_requests_nor_the_end() -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    arguments = ("--durability", "none", "--listen", "localhost:0", "--trace")
    with ServeProcess(*arguments, **settings) as server, Caller(server.address) as caller:
        caller.get(caller.create().id)
        status, log = server.end()
    assert status == 0
    assert "Traceback" not in log


def test_extra_that_is_not_installed_is_named(tmp_path: Path) -> None:
    # What an import of it meets where it is not installed.
    (tmp_path / "opentelemetry.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'opentelemetry'\", name='opentelemetry')\n"
    )
    finished = subprocess.run(
        command("--durability", "none", "--listen", "localhost:0", "--trace"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert finished.returncode == 1
    said = "opentelemetry is not installed; run: pip install 'tickcell[trace]'"
    assert finished.stderr == f"tickcell: {said}\n"

"""The bounds that keep one caller from taking the server from the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from tickcell import wire
from tickcell.conformance.caller import PATHS, PATIENCE_S, Caller, Path, Refused, StreamPath
from tickcell.conformance.subject import refused_by_grpc
from tickcell.server import lives
from tickcell.server.config import Limits
from tickcell.server.store import MemoryStore
from tickcell.v1 import session_service_pb2 as pb

LIMITS = Limits(
    max_sessions=50,
    max_window=16,
    max_request_rows=32,
    max_record_bytes=850,
    max_message_bytes=1000,
    max_streams=2,
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with InProcessServer([served(CountingCell())], limits=LIMITS) as server:
        yield server.address


@pytest.fixture
def caller(address: str) -> Iterator[Caller]:
    with Caller(address) as opened:
        yield opened


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, caller: Caller) -> Iterator[Path]:
    with PATHS[request.param](caller) as opened:
        yield opened
        if isinstance(opened, StreamPath):
            # Its place is free once it has ended, not when it is told to.
            opened.half_close()
            assert opened.ends()


def send(path: Path, session: pb.Session, steps: int) -> int:
    """Sends the first steps of a session; returns how many were answered."""
    request = path.request_class(
        session=session.id,
        generation=session.generation,
        first_step=0,
        step_count=steps,
        frames=[1.0] * (steps * session.series_count),
    )
    return int(path.send(request.SerializeToString()).step_count)


def test_window_is_bounded(caller: Caller) -> None:
    assert caller.create(window_step_count=16).window_step_count == 16
    with pytest.raises(Refused) as caught:
        caller.create(window_step_count=17)
    assert caught.value.metadata["max"] == "16"


def test_window_by_default_is_within_the_bound(caller: Caller) -> None:
    assert caller.create().window_step_count == 16


def test_series_are_bounded(caller: Caller) -> None:
    assert caller.create(series_count=32, window_step_count=1).series_count == 32
    with pytest.raises(Refused) as caught:
        caller.create(series_count=33)
    assert caught.value.metadata["max"] == "32"


def test_series_and_window_together_are_bounded(caller: Caller) -> None:
    # 32 series of a counting cell: 4 bytes of state each, 8 + 4 x 32 of each step, and the
    # history before them.
    assert caller.create(series_count=32, window_step_count=5).window_step_count == 5
    with pytest.raises(Refused) as caught:
        caller.create(series_count=32, window_step_count=6)
    assert caught.value.reason == "ARGUMENT_INVALID"
    assert caught.value.metadata["record_bytes"] == str(4 * 32 + 8 + 6 * (8 + 4 * 32))
    assert caught.value.metadata["max_record_bytes"] == "850"


def test_rows_of_a_request_are_bounded(path: Path, caller: Caller) -> None:
    session = caller.create(series_count=8)
    assert session.max_step_count == 4
    with pytest.raises(Refused) as caught:
        send(path, session, 5)
    assert caught.value.reason == "FRAME_SHAPE"
    assert caught.value.metadata["max_step_count"] == "4"
    assert send(path, session, 4) == 4


def test_bytes_of_a_message_bound_the_steps_of_a_request() -> None:
    limits = Limits(max_message_bytes=1000)
    with (
        InProcessServer([served(CountingCell())], limits=limits) as server,
        Caller(server.address) as caller,
    ):
        session = caller.create(session="s" * 63, series_count=20)
        assert session.max_step_count == (1000 - 256) // (4 * 20)
        for kind in PATHS.values():
            with kind(caller) as path:
                assert send(path, session, session.max_step_count) == session.max_step_count
                with pytest.raises(Refused) as caught:
                    send(path, session, session.max_step_count + 1)
                assert caught.value.reason == "FRAME_SHAPE"
                assert caught.value.metadata["max_step_count"] == str(session.max_step_count)


@pytest.mark.parametrize("kind", [wire.StreamStepsRequest, wire.StreamStepsResponse])
def test_what_is_beside_the_vector_is_shorter_than_is_reckoned(kind: Any) -> None:
    vector = "frames" if kind is wire.StreamStepsRequest else "outputs"
    history = "expected_history" if kind is wire.StreamStepsRequest else "history"
    message = kind(
        session="s" * 63,
        generation=2**53 - 1,
        first_step=2**63 - 1,
        step_count=2**31 - 1,
        **{vector: bytes(2**22), history: bytes(8)},
    )
    assert message.ByteSize() - 2**22 <= 256 // 2


@pytest.mark.parametrize("outputs", [1, 12])
def test_session_of_which_no_step_could_be_sent_or_answered_is_refused(outputs: int) -> None:
    bounds = {"window": 8, "max_request_rows": 100, "max_message_bytes": 256 + 4 * 120}
    widest = max(10, outputs)
    most = 120 // widest
    fits = {"series_count": most, "sensor_count": 10, "output_count": outputs}
    assert lives.max_step_count(**fits, **bounds) == 1
    assert lives.max_step_count(**{**fits, "series_count": most + 1}, **bounds) == 0


def test_refusal_of_such_a_session_says_what_would_do() -> None:
    limits = Limits(max_message_bytes=1000)
    with (
        InProcessServer([served(CountingCell())], limits=limits) as server,
        Caller(server.address) as caller,
    ):
        assert caller.create(series_count=186).max_step_count == 1
        with pytest.raises(Refused, match="raise --max-request-rows and") as caught:
            caller.create(session="a", series_count=187)
        assert caught.value.reason == "ARGUMENT_INVALID"
        assert caught.value.metadata["field"] == "series_count"
        with pytest.raises(Refused) as caught:
            caller.get("a")
        assert caught.value.reason == "SESSION_UNKNOWN"


def test_every_server_honours_what_was_promised_at_creation() -> None:
    records = MemoryStore()
    models = [served(CountingCell())]
    narrow = Limits(max_request_rows=4, max_window=4)
    with (
        InProcessServer(models, records) as wide_server,
        InProcessServer(models, records, limits=narrow) as narrow_server,
        Caller(wide_server.address) as wide,
        Caller(narrow_server.address) as caller,
    ):
        promised = wide.create(series_count=2, window_step_count=8)
        assert promised.max_step_count == 8
        assert caller.get(promised.id) == promised
        with PATHS["unary"](caller) as path:
            assert send(path, promised, 8) == 8
        bound = caller.create(series_count=2)
        with PATHS["unary"](wide) as path, pytest.raises(Refused) as caught:
            send(path, bound, 3)
        assert caught.value.metadata["max_step_count"] == "2"


def test_overlong_message_is_for_grpc_to_refuse_and_harms_no_other_stream(caller: Caller) -> None:
    session = caller.create()
    with StreamPath(caller) as stream, StreamPath(caller) as other:
        assert send(other, session, 1) == 1
        refused_by_grpc(stream, bytes(1001))
        assert send(other, session, 2) == 2
        other.half_close()
        assert other.ends()


def test_streams_are_bounded_and_there_is_room_once_one_ends(caller: Caller) -> None:
    session = caller.create()
    with StreamPath(caller) as first, StreamPath(caller) as second:
        assert send(first, session, 1) == 1
        assert send(second, session, 1) == 1
        with StreamPath(caller) as third, pytest.raises(Refused) as caught:
            third.receive()
        assert caught.value.reason == "STREAMS_FULL"
        assert caught.value.metadata == {"max_stream_count": "2"}
        first.half_close()
        assert first.ends()
        with StreamPath(caller) as third:
            assert send(third, session, 2) == 2
            third.half_close()
            assert third.ends()
        second.half_close()
        assert second.ends()


def test_sessions_are_bounded(address: str) -> None:
    with (
        InProcessServer([served(CountingCell())], limits=Limits(max_sessions=2)) as server,
        Caller(server.address) as caller,
    ):
        first, _ = caller.create(), caller.create()
        with pytest.raises(Refused) as caught:
            caller.create()
        assert caught.value.reason == "SESSIONS_FULL"
        assert caller.get(first.id) == first


def test_page_of_a_list_is_bounded() -> None:
    with InProcessServer([served(CountingCell())]) as server, Caller(server.address) as caller:
        for _ in range(1001):
            caller.create()
        wanted = pb.ListSessionsRequest(page_size=5000)
        page = caller.call(caller.sessions.ListSessions, wanted)
        assert len(page.sessions) == 1000
        wanted.page_token = page.next_page_token
        assert len(caller.call(caller.sessions.ListSessions, wanted).sessions) == 1


def test_longest_request_within_the_bounds_is_answered(caller: Caller) -> None:
    session = caller.create(series_count=2)
    frames = np.arange(32, dtype=np.float32)
    request = pb.StepSessionRequest(session=session.id, step_count=16, frames=frames.tolist())
    answered = caller.sessions.StepSession(request, timeout=PATIENCE_S)
    expected = frames.reshape(16, 2) + 1000 * np.arange(16)[:, np.newaxis]
    np.testing.assert_array_equal(np.array(answered.outputs), expected.ravel())

"""Whatever a peer does, it gets a reason, and the log no traceback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from doubles.counted_source import wait_until
from doubles.counting_relay import counting_relay
from doubles.raw_peer import RawPeer
from tickcell import wire
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, methods
from tickcell.conformance.caller import PATIENCE_S, Caller
from tickcell.v1 import session_service_pb2 as pb

GARBAGE = b"\xff\xff\xff"
# What a caller takes of a stream that it does not read, as HTTP/2 has it.
STREAM_WINDOW_BYTES = 65_535
# gRPC cancels some of the calls that wait beyond 1,000, and each beyond 3,000.
WAITING = 4_000
HEALTH = "/grpc.health.v1.Health"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[ServerProcess]:
    with ServerProcess(directory, listen="127.0.0.1:0") as process:
        yield process


@pytest.fixture
def log(directory: Path) -> Callable[[], str]:
    """Gives what the server has logged."""
    return (directory / "server.log").read_text


@pytest.fixture
def channel(server: ServerProcess) -> Iterator[Any]:
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as opened:
        yield opened


def reason_of(error: Any) -> str:
    """Returns the reason with which a call was refused."""
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(info)
    return str(info.reason)


CALLS: dict[str, Callable[[Any], object]] = {
    "health check": lambda channel: channel.unary_unary(f"{HEALTH}/Check")(GARBAGE),
    "health watch": lambda channel: list(channel.unary_stream(f"{HEALTH}/Watch")(GARBAGE)),
    "reflection": lambda channel: list(
        channel.stream_stream(f"{REFLECTION}/ServerReflectionInfo")(iter([GARBAGE]))
    ),
    "step": lambda channel: channel.unary_unary(methods.STEP_SESSION.path)(GARBAGE),
    "list": lambda channel: channel.unary_unary(methods.LIST_MODELS.path)(GARBAGE),
}


@pytest.mark.parametrize("name", CALLS)
def test_bytes_that_are_no_message_are_refused_with_a_reason_and_without_a_traceback(
    log: Callable[[], str], channel: Any, name: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        CALLS[name](channel)
    error: Any = refused.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == "MALFORMED"
    assert "Traceback" not in log()


def test_health_and_reflection_answer_what_is_asked_rightly(channel: Any) -> None:
    assert channel.unary_unary(f"{HEALTH}/Check")(b"") == b"\x08\x01"
    asked = channel.stream_stream(f"{REFLECTION}/ServerReflectionInfo")(iter([b"\x3a\x00"]))
    (listed,) = asked
    assert b"tickcell.v1.SessionService" in listed


def test_a_caller_that_never_reads_and_leaves_is_a_line_in_the_log(
    server: ServerProcess, log: Callable[[], str]
) -> None:
    # Else gRPC measures the link, and takes more than it begins with.
    with Caller(server.address, ("grpc.http2.bdp_probe", 0)) as caller:

        def is_told() -> bool:
            leave_unread(caller)
            return "a caller left before it had its answer" in log()

        # Where gRPC has taken the last answer after all, nothing is amiss when the caller leaves.
        wait_until(is_told)
    assert "Traceback" not in log()


def leave_unread(caller: Caller) -> None:
    """Leaves a stream of which more was answered than it has room for."""
    steps, series = 32, 64
    frames = np.zeros((steps, series, 10), np.float32).tobytes()
    session = caller.sessions.CreateSession(
        pb.CreateSessionRequest(series_count=series, window_step_count=steps)
    ).session

    def requests() -> Iterator[bytes]:
        for index in range(1000):
            yield wire.StreamStepsRequest(
                session=session.id,
                generation=session.generation,
                first_step=index * steps,
                step_count=steps,
                frames=frames,
            ).SerializeToString()

    stream: Any = caller.channel.stream_stream(methods.STREAM_STEPS.path)
    call = stream(requests())
    answers = 1 + STREAM_WINDOW_BYTES // (steps * series * 4)
    wait_until(lambda: caller.get(session.id).next_step >= answers * steps)
    call.cancel()


NOT_UTF_8 = b"\xff\xfe"


def test_metadata_that_is_not_text_is_a_line_in_the_log(
    server: ServerProcess, log: Callable[[], str]
) -> None:
    with RawPeer(server.address) as peer:
        peer.call(methods.LIST_MODELS.path.encode(), note=NOT_UTF_8)
        assert peer.has_heard.wait(PATIENCE_S)
    assert "metadata that is not UTF-8" in log()
    assert "Traceback" not in log()


def test_a_method_whose_name_is_not_text_stops_the_server_for_nobody(tmp_path: Path) -> None:
    """Some versions of gRPC stop serving at it, all of their connections and for good."""
    frame = np.zeros(10, np.float32)
    with (
        ServerProcess(tmp_path, listen="127.0.0.1:0") as server,
        Session.create(server.address) as session,
    ):
        session.step(frame)
        with RawPeer(server.address) as peer:
            peer.call(b"/" + NOT_UTF_8)
            assert peer.has_heard.wait(PATIENCE_S)
        session.step(frame)
        assert session.next_step == 2
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def test_who_pings_far_more_often_than_a_proxy_is_cut_off(server: ServerProcess) -> None:
    with RawPeer(server.address) as peer:
        for _ in range(100):
            peer.ping()
        assert peer.has_ended.wait(PATIENCE_S)
        assert peer.goodbye == b"too_many_pings"


def test_no_call_is_cancelled_without_a_reason_however_many_wait(server: ServerProcess) -> None:
    """By itself gRPC does that, and a limit on the calls of a connection does too."""

    async def ask_all() -> list[bytes]:
        async with (
            counting_relay(server.address) as relay,
            grpc.aio.insecure_channel(relay.address) as channel,
        ):
            ask: Any = channel.unary_unary(methods.LIST_MODELS.path)
            await ask(b"")
            with server.paused():
                calls = [ask(b"") for _ in range(WAITING)]
                # All of them are on their way when it goes on.
                async with asyncio.timeout(PATIENCE_S):
                    while relay.calls < 1 + len(calls):
                        await asyncio.sleep(0.01)
            return list(await asyncio.gather(*calls))

    assert len(asyncio.run(ask_all())) == WAITING

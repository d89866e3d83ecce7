"""`tickcell serve` stops as it is told: what it read is answered, then streams end, then it."""

from __future__ import annotations

import contextlib
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from doubles.looped import looped
from doubles.raw_peer import RawPeer
from server.serve_process import ServeProcess
from tickcell import wire
from tickcell.conformance.caller import PATIENCE_S, Caller, Refused, StreamPath, UnaryPath
from tickcell.conformance.subject import Subject, encoded, refused
from tickcell.model import Bundle
from tickcell.v1 import session_service_pb2 as pb

# So long that a server which waits for it when it need not fails the test.
LONG_GRACE = ("--grace", "3600")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture
def arguments(tmp_path: pathlib.Path) -> tuple[str, ...]:
    return ("--listen", "localhost:0", "--store", str(tmp_path / "store"), *LONG_GRACE)


@pytest.fixture
def server(arguments: tuple[str, ...]) -> Iterator[ServeProcess]:
    with ServeProcess(*arguments) as process:
        yield process


@pytest.fixture
def caller(server: ServeProcess) -> Iterator[Caller]:
    with Caller(server.address) as opened:
        yield opened


def assert_ends_draining(stream: StreamPath) -> None:
    with pytest.raises(Refused) as caught:
        stream.receive()
    assert (caught.value.reason, caught.value.code) == ("DRAINING", "UNAVAILABLE")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_server_ends_well(server: ServeProcess, number: signal.Signals) -> None:
    status, log = server.end(number)
    assert status == 0
    assert "stopped" in log
    assert "Traceback" not in log


def test_idle_streams_end_as_draining(server: ServeProcess, caller: Caller, bundle: Bundle) -> None:
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(StreamPath(caller)) for _ in range(3)]
        for stream in streams:
            Subject(caller, looped(bundle, caller)).advance(stream)
        server.send(signal.SIGTERM)
        for stream in streams:
            assert_ends_draining(stream)
    status, log = server.wait()
    assert status == 0
    assert "did not end" not in log


def test_every_step_that_was_applied_was_answered_to_its_stream(
    server: ServeProcess, caller: Caller, bundle: Bundle, arguments: tuple[str, ...]
) -> None:
    subject = Subject(caller, looped(bundle, caller), window_step_count=100)
    with StreamPath(caller) as stream:
        for step in range(len(subject.frames)):
            stream.post(encoded(subject.request(stream, step)))
        subject.hold_answer(stream.receive(), 0)
        server.send(signal.SIGTERM)
        answered = 1
        with contextlib.suppress(Refused):
            while True:
                subject.hold_answer(stream.receive(), answered)
                answered += 1
        assert_ends_draining(stream)
    assert server.wait()[0] == 0
    with ServeProcess(*arguments) as again, Caller(again.address) as caller_again:
        assert caller_again.get(subject.id).next_step == answered


def test_every_call_in_flight_is_answered_or_refused_as_draining(
    server: ServeProcess, caller: Caller, bundle: Bundle, arguments: tuple[str, ...]
) -> None:
    sessions = [caller.create() for _ in range(8)]
    frame = bundle.golden.frames[0].tolist()
    begun = threading.Barrier(len(sessions) + 1)

    def call_on_and_on(session: pb.Session) -> tuple[int, Any]:
        """Steps until that fails; returns how many steps were answered, and the failure."""
        step = 0
        with Caller(server.address) as own, UnaryPath(own) as path:
            while True:
                request = pb.StepSessionRequest(
                    session=session.id,
                    generation=session.generation,
                    first_step=step,
                    step_count=1,
                    frames=frame,
                )
                try:
                    path.send(request.SerializeToString())
                except (Refused, grpc.RpcError) as error:
                    return step, error
                step += 1
                if step == 1:
                    begun.wait(PATIENCE_S)

    with futures.ThreadPoolExecutor(len(sessions)) as pool:
        calls = [pool.submit(call_on_and_on, session) for session in sessions]
        begun.wait(PATIENCE_S)
        server.send(signal.SIGTERM)
        ends = [call.result(PATIENCE_S) for call in calls]
    assert server.wait()[0] == 0
    for _, error in ends:
        if isinstance(error, Refused):
            assert error.reason == "DRAINING"
        else:
            # It came when there was no server any more.
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error
    with ServeProcess(*arguments) as again, Caller(again.address) as caller_again:
        applied = [caller_again.get(session.id).next_step for session in sessions]
    assert applied == [answered for answered, _ in ends]


def test_bulk_requests_under_way_are_whole_or_not_at_all(
    server: ServeProcess, arguments: tuple[str, ...], bundle: Bundle
) -> None:
    """Each is 8,192 rows, worked on in slices, and the signal comes amid them."""
    steps, series = 32, 256
    frames = np.tile(bundle.golden.frames[:steps, np.newaxis], (1, series, 1)).astype("<f4")

    def send(index: int) -> bool:
        with Caller(server.address) as caller, UnaryPath(caller) as path:
            session = caller.create(
                session=f"bulk-{index}", series_count=series, window_step_count=steps
            )
            request = wire.StepSessionRequest(
                session=session.id,
                generation=session.generation,
                first_step=0,
                step_count=steps,
                frames=frames.tobytes(),
            )
            all_created.wait()
            try:
                answered = path.send(request.SerializeToString())
            except Refused as error:
                if error.reason != "DRAINING":
                    raise
                return False
            assert len(answered.outputs) == steps * series
            return True

    all_created = threading.Barrier(9)
    with futures.ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(send, index) for index in range(8)]
        all_created.wait()
        server.send(signal.SIGTERM)
        is_applied = [each.result() for each in sent]
    status, log = server.wait()
    assert (status, "Traceback" in log) == (0, False)
    with ServeProcess(*arguments) as again, Caller(again.address) as caller:
        for index, was_applied in enumerate(is_applied):
            assert caller.get(f"bulk-{index}").next_step == (steps if was_applied else 0)


def test_idle_watch_of_health_hears_of_the_end_and_does_not_hold_it(
    server: ServeProcess, caller: Caller
) -> None:
    health: Any = health_pb2_grpc.HealthStub(caller.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    server.send(signal.SIGTERM)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert server.wait()[0] == 0


def test_watch_of_health_that_is_not_read_does_not_hold_the_end(server: ServeProcess) -> None:
    with RawPeer(server.address, window_bytes=0) as peer:
        peer.call(b"/grpc.health.v1.Health/Watch")
        assert peer.has_heard.wait(PATIENCE_S)
        assert server.end(signal.SIGTERM)[0] == 0


@contextlib.contextmanager
def stuck_stream(server: ServeProcess, bundle: Bundle) -> Iterator[StreamPath]:
    """A stream whose caller reads no answer, so that the server cannot end it."""
    steps, series = 32, 256
    frames = np.tile(bundle.golden.frames[0], (steps, series, 1)).astype("<f4").tobytes()
    with (
        # What may be on the way unread stays at the 64 KiB of HTTP/2, two answers less a bit.
        Caller(server.address, ("grpc.http2.bdp_probe", 0)) as caller,
        Caller(server.address) as observer,
        StreamPath(caller) as stream,
    ):
        session = caller.create(series_count=series, window_step_count=steps)
        for index in range(3):
            request = wire.StreamStepsRequest(
                session=session.id,
                generation=session.generation,
                first_step=index * steps,
                step_count=steps,
                frames=frames,
            )
            stream.post(request.SerializeToString())
        deadline = time.monotonic() + PATIENCE_S
        while observer.get(session.id).next_step < 2 * steps:
            assert time.monotonic() < deadline, "the steps are not applied"
        yield stream


def wait_for_drain(caller: Caller) -> None:
    """Waits until the server is draining."""
    health: Any = health_pb2_grpc.HealthStub(caller.channel)
    for heard in health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S):
        if heard.status == health_pb2.HealthCheckResponse.NOT_SERVING:
            return


def test_draining_server_refuses_whatever_is_new(server: ServeProcess, bundle: Bundle) -> None:
    with stuck_stream(server, bundle) as stream, Caller(server.address) as other:
        subject = Subject(other, looped(bundle, other))
        draining = threading.Thread(target=wait_for_drain, args=(other,))
        draining.start()
        server.send(signal.SIGTERM)
        draining.join(PATIENCE_S)
        calls: tuple[Callable[[], object], ...] = (
            other.create,
            lambda: other.get(subject.id),
            lambda: other.touch(subject.id, subject.generation),
        )
        for call in calls:
            with pytest.raises(Refused) as caught:
                call()
            assert caught.value.reason == "DRAINING"
        with UnaryPath(other) as unary:
            refused(unary, "DRAINING", subject.request(unary, 0))
        with StreamPath(other) as late:
            assert_ends_draining(late)
        stream.call.cancel()
        assert server.wait()[0] == 0


def test_stream_that_does_not_end_is_waited_for_no_longer_than_the_grace(
    bundle: Bundle,
) -> None:
    arguments = ("--listen", "localhost:0", "--durability", "none", "--grace", "0.2")
    with (
        ServeProcess(*arguments) as server,
        stuck_stream(server, bundle),
    ):
        status, log = server.end()
    assert status == 0
    assert "1 streams did not end within 0.2 s" in log


def test_server_starts_again_at_once_at_the_address_it_had(bundle: Bundle) -> None:
    arguments = ("--durability", "none", "--listen")
    with ServeProcess(*arguments, "localhost:0") as server, Caller(server.address) as caller:
        with StreamPath(caller) as stream:
            Subject(caller, looped(bundle, caller)).advance(stream)
            server.send(signal.SIGTERM)
            assert_ends_draining(stream)
        server.wait()
        with ServeProcess(*arguments, server.address) as again:
            assert again.address == server.address

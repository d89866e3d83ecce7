"""Probes say what they should of a server, and the port that shows them is harmed by nobody."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from hypothesis import strategies as st

from doubles.manual_clock import ManualClock
from server.http_client import Answer, connect, fetch, status_of
from server.serve_process import ServeProcess, complaint
from tickcell.conformance.caller import Caller
from tickcell.server import listening
from tickcell.server.config import Limits
from tickcell.server.health import Health
from tickcell.server.monitoring import http_port
from tickcell.server.monitoring.heartbeat import Heartbeat
from tickcell.server.monitoring.http_port import HttpPort
from tickcell.server.monitoring.metrics import Metrics
from tickcell.server.monitoring.pages import Page, Pages, pages
from tickcell.server.observer import Observer
from tickcell.server.store import StoreDamagedError

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
IN_MEMORY = ("--durability", "none", "--listen", "localhost:0")
PAGES = ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/metrics")


@contextlib.contextmanager
def showing(shown: Pages, limit_s: float = 5.0) -> Iterator[str]:
    """Shows some pages, each within so many seconds; yields the address."""
    listeners = listening.listen("127.0.0.1:0", "--metrics")
    address = "{}:{}".format(*listeners[0].getsockname())
    with contextlib.closing(HttpPort(listeners, shown, limit_s)):
        yield address


class Scene:
    """The pages of a server whose parts a test moves.

    Attributes:
      clock: by which its heart beats.
      health, heartbeat: its own.
      pages: by path.
    """

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.health = Health()
        self.heartbeat = Heartbeat(lambda: self.clock.now_ns() / 1e9)
        metrics = Metrics(Observer(self.health), Limits())
        self.pages = pages(metrics, self.health, self.heartbeat)

    def statuses(self) -> list[int]:
        """Returns what the four probes say."""
        return [self.pages[path]().status for path in PAGES[:4]]


class TestJudgement:
    def test_serving_server_is_live_and_ready(self) -> None:
        assert Scene().statuses() == [200, 200, 200, 200]

    def test_draining_server_is_live_and_not_ready(self) -> None:
        scene = Scene()
        scene.health.drain()
        assert scene.statuses() == [200, 503, 200, 400]
        assert scene.pages["/readyz"]().body == b"draining\n"
        assert json.loads(scene.pages["/v2/health/ready"]().body) == {"ready": False}

    def test_server_whose_store_is_damaged_is_live_and_not_ready(self) -> None:
        scene = Scene()
        scene.health.store_failed(StoreDamagedError("store: is torn."))
        scene.health.judge()
        assert scene.statuses() == [200, 503, 200, 400]

    def test_server_whose_loop_stands_still_is_neither(self) -> None:
        scene = Scene()
        scene.clock.advance(5.5)
        assert scene.statuses() == [503, 503, 400, 400]
        assert scene.pages["/livez"]().body == b"no event for 6 s\n"

    def test_slow_moment_is_no_end(self) -> None:
        scene = Scene()
        scene.clock.advance(4.5)
        assert scene.statuses() == [200, 200, 200, 200]


def test_liveness_is_answered_while_the_loop_stands_still_and_comes_back() -> None:
    scene = Scene()
    seen: list[int] = []

    async def stand_still(address: str) -> None:
        beating = asyncio.create_task(scene.heartbeat.beat())
        await asyncio.sleep(0)
        seen.append(fetch(address, "/livez").status)
        scene.clock.advance(60.0)
        # Asked from within the loop, which can do nothing else meanwhile.
        seen.append(fetch(address, "/livez").status)
        # The next beat is due within a second.
        while fetch(address, "/livez").status != 200:
            await asyncio.sleep(0.05)
        beating.cancel()

    with showing(scene.pages) as address:
        asyncio.run(stand_still(address))
    assert seen == [200, 503]


class TestProcess:
    def test_probes_follow_a_server_to_its_end(self) -> None:
        with ServeProcess(*IN_MEMORY, "--metrics", "localhost:0") as server:
            assert [fetch(server.watched, path).status for path in PAGES] == [200] * 5
            assert server.end(signal.SIGTERM)[0] == 0
            with pytest.raises(ConnectionRefusedError):
                fetch(server.watched, "/livez")

    def test_draining_process_is_live_and_not_ready(self) -> None:
        with (
            ServeProcess(*IN_MEMORY, "--metrics", "localhost:0") as server,
            Caller(server.address) as caller,
        ):
            # An open stream of another service, for which a drain waits a second.
            requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
            method: Any = caller.channel.stream_stream(REFLECTION)
            held = method(iter(requests.get, None))
            requests.put(ServerReflectionRequest(list_services="").SerializeToString())
            next(held)
            server.send(signal.SIGTERM)
            seen = set[tuple[int, int]]()
            with contextlib.suppress(OSError):
                while True:
                    live = fetch(server.watched, "/livez").status
                    seen.add((live, fetch(server.watched, "/readyz").status))
            assert server.wait()[0] == 0
            requests.put(None)
            assert (200, 503) in seen
            assert {live for live, _ in seen} == {200}

    def test_port_is_that_of_the_flag_or_variable(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        for given, variables in (
            (("--metrics", f"127.0.0.1:{port}"), {}),
            ((), {"TICKCELL_METRICS": f"127.0.0.1:{port}"}),
        ):
            with ServeProcess(*IN_MEMORY, *given, **variables) as server:
                assert server.watched == f"127.0.0.1:{port}"
                assert fetch(server.watched, "/readyz") == Answer(
                    200, "text/plain; charset=utf-8", "ok\n"
                )

    def test_without_the_flag_no_port_is_open(self) -> None:
        with ServeProcess(*IN_MEMORY) as server:
            assert server.watched == ""

    def test_port_that_is_taken_or_malformed_is_refused(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            said = complaint(*IN_MEMORY, "--metrics", address)
        assert said.startswith(f"--metrics: {address} is taken by another process; stop it")
        said = complaint(*IN_MEMORY, "--metrics", "no.such.host.invalid:0")
        assert said.startswith("--metrics: the host 'no.such.host.invalid' is not known")
        said = complaint(*IN_MEMORY, "--metrics", "0.0.0.0:0")
        assert said.startswith("--metrics: other machines can reach 0.0.0.0:0")
        said = complaint(*IN_MEMORY, "--metrics", "9464")
        assert said == (
            "--metrics: got '9464', expected HOST:PORT such as localhost:9464 or [::]:9464."
        )

    @pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
    def test_port_is_open_to_other_machines_where_that_is_meant(self, host: str) -> None:
        with ServeProcess(*IN_MEMORY, "--metrics", f"{host}:0", "--insecure") as server:
            assert server.watched.startswith("localhost:")
            _, _, port = server.watched.rpartition(":")
            assert fetch(f"127.0.0.1:{port}", "/readyz").status == 200


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    with showing(Scene().pages) as address:
        yield address


class TestRequests:
    def test_head_is_answered_without_a_body(self, port: str) -> None:
        answer = fetch(port, "/metrics", "HEAD")
        assert (answer.status, answer.body) == (200, "")
        assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"

    def test_query_is_of_no_interest(self, port: str) -> None:
        assert fetch(port, "/livez?verbose=1").body == "ok\n"

    @pytest.mark.parametrize("path", ["/", "/metrics/", "/../etc/passwd", "/%2e%2e", "/livez%00"])
    def test_unknown_page_is_answered_with_those_there_are(self, port: str, path: str) -> None:
        answer = fetch(port, path)
        assert answer.status == 404
        assert answer.body == f"there are: {' '.join(PAGES)}\n"

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
    def test_other_methods_are_refused(self, port: str, method: str) -> None:
        assert fetch(port, "/metrics", method).status == 405

    def test_page_that_fails_is_a_fault_of_the_server_and_the_log_says_why(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> Page:
            raise ArithmeticError("a fault of ours")

        with showing({"/metrics": fail}) as address:
            answer = fetch(address, "/metrics")
        assert (answer.status, answer.body) == (500, "the server's log says why\n")
        assert "a fault of ours" in caplog.text


class TestHostility:
    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (b"\x00\x01\x02\r\n\r\n", 400),
            (b"GET\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", 200),
            (b"GET /livez HTTP/1.0\r\n\r\n", 200),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000 + b"\r\n", None),
            (b"GET /" + b"a" * 100_000, None),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\n", 400),
            (b"", None),
        ],
    )
    def test_bytes_are_answered_or_closed_on(
        self, port: str, request_: bytes, status: int | None
    ) -> None:
        # What is too long is refused with 431, unless its sender is still sending.
        assert status_of(port, request_) in {status, 431 if status is None else status}
        assert fetch(port, "/livez").status == 200

    @hypothesis.given(
        st.one_of(
            st.binary(max_size=200),
            st.tuples(
                st.sampled_from([b"GET", b"HEAD", b"POST", b"get", b""]),
                st.binary(max_size=20),
                st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP", b""]),
                st.lists(st.binary(max_size=20), max_size=3),
            ).map(lambda line: b"%s %s %s\r\n%s\r\n\r\n" % (*line[:3], b"\r\n".join(line[3]))),
        )
    )
    @hypothesis.settings(max_examples=60)
    def test_any_bytes_are_answered_as_http_has_it_or_closed_on(
        self, port: str, request_: bytes
    ) -> None:
        assert status_of(port, request_) in {None, 200, 400, 404, 405, 431, 501}

    def test_many_who_say_nothing_keep_nobody_out(self, port: str) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(3 * http_port.MAX_OPEN):
                stack.enter_context(connect(port))
            assert fetch(port, "/livez").status == 200

    def test_who_says_nothing_or_little_is_closed_on_in_time(self) -> None:
        with (
            showing({}, limit_s=0.5) as address,
            connect(address) as silent,
            connect(address) as slow,
        ):
            closed = threading.Event()

            def drip() -> None:
                with contextlib.suppress(OSError):
                    while not closed.wait(0.1):
                        slow.send(b"G")

            dripping = threading.Thread(target=drip)
            dripping.start()
            assert silent.recv(1) == b""
            with contextlib.suppress(ConnectionResetError):
                assert slow.recv(1) == b""
            closed.set()
            dripping.join()

    def test_flood_is_answered_at_a_bounded_rate(self) -> None:
        asked = 0

        def page() -> Page:
            nonlocal asked
            asked += 1
            return Page(http.HTTPStatus.OK, "text/plain", b"ok")

        def flood(until: float) -> None:
            while time.monotonic() < until:
                with contextlib.suppress(OSError):
                    fetch(address, "/livez")

        with showing({"/livez": page}) as address:
            begin = time.monotonic()
            callers = [threading.Thread(target=flood, args=(begin + 1.0,)) for _ in range(8)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
            taken_s = time.monotonic() - begin
        assert 0 < asked <= taken_s / http_port.PACE_S + 1

"""Certificates, tokens and callers that change while streams are open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from doubles.authority import Authority, channel_credentials
from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from doubles.known_callers import KnownCallers
from tickcell.conformance.caller import Caller, Refused, StreamPath
from tickcell.server.access import Access
from tickcell.server.files import Files
from tickcell.server.owners import Owners
from tickcell.v1 import session_service_pb2 as pb

# Far more than the second after which files are looked at.
PATIENCE_S = 30.0


class Stream:
    """A session on an open stream."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.path = StreamPath(caller)
        self.session = caller.create()
        self._next_step = 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *arguments: object) -> None:
        self.path.__exit__(*arguments)

    def step(self) -> None:
        request = pb.StreamStepsRequest(
            session=self.session.id,
            generation=self.session.generation,
            first_step=self._next_step,
            step_count=1,
            frames=[1.0],
        )
        (output,) = self.path.send(request.SerializeToString()).outputs
        assert output == 1.0 + 1000.0 * self._next_step
        self._next_step += 1


def until(is_so: Callable[[], object]) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.02)


def refusal_that_ends(stream: Stream) -> Refused:
    """Waits until an idle stream is ended, and returns what for."""
    with pytest.raises(Refused) as caught:
        stream.path.receive()
    assert stream.path.call.code().name == caught.value.code
    return caught.value


@pytest.fixture
def authority() -> Authority:
    return Authority()


class TestCertificates:
    def test_renewed_certificate_counts_for_new_connections_and_open_streams_go_on(
        self, tmp_path: pathlib.Path, authority: Authority
    ) -> None:
        certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
        authority.server().write(certificate, key)
        successor = Authority("its successor")
        options: dict[str, Any] = {"tls_certificate": certificate, "tls_key": key}
        old, new = channel_credentials(authority), channel_credentials(successor)
        with (
            server_of(options) as server,
            Caller(server.address, credentials=old) as caller,
            Stream(caller) as stream,
        ):
            stream.step()
            assert not reaches(server, new)
            successor.server().write(certificate, key)
            until(lambda: reaches(server, new))
            assert not reaches(server, old)
            stream.step()

    def test_certificates_of_another_authority_are_asked_for_from_then_on(
        self, tmp_path: pathlib.Path, authority: Authority
    ) -> None:
        certificate, key, ca = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt"
        authority.server().write(certificate, key)
        ca.write_bytes(authority.certificate)
        options: dict[str, Any] = {
            "tls_certificate": certificate,
            "tls_key": key,
            "tls_client_ca": ca,
        }
        successor = Authority("its successor")
        old = channel_credentials(authority, authority.client("robot"))
        new = channel_credentials(authority, successor.client("robot"))
        with (
            server_of(options) as server,
            Caller(server.address, credentials=old) as caller,
            Stream(caller) as stream,
        ):
            assert not reaches(server, new)
            # Both, as long as callers have one or the other.
            ca.write_bytes(authority.certificate + successor.certificate)
            until(lambda: reaches(server, new))
            assert reaches(server, old)
            ca.write_bytes(successor.certificate)
            until(lambda: not reaches(server, old))
            assert reaches(server, new)
            stream.step()

    @pytest.mark.lengthy
    def test_pair_that_is_half_renewed_or_broken_leaves_the_last_one(
        self, tmp_path: pathlib.Path, authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
        authority.server().write(certificate, key)
        options: dict[str, Any] = {"tls_certificate": certificate, "tls_key": key}
        trusted = channel_credentials(authority)
        successor = Authority("its successor")
        renewed = successor.server()
        with server_of(options) as server, caplog.at_level(logging.INFO):
            certificate.write_bytes(renewed.certificate)
            until(lambda: "are not a certificate and its key" in caplog.text)
            assert reaches(server, trusted)
            certificate.unlink()
            until(lambda: "tls.crt: No such file or directory." in caplog.text)
            assert reaches(server, trusted)
            assert "The previous content still applies." in caplog.text
            certificate.write_bytes(renewed.certificate)
            key.write_bytes(renewed.key)
            until(lambda: reaches(server, channel_credentials(successor)))
            assert "--tls-certificate and --tls-key: read anew" in caplog.text


class TestTokens:
    @pytest.fixture
    def known(self, tmp_path: pathlib.Path) -> KnownCallers:
        return KnownCallers(tmp_path)

    def test_stream_of_a_token_that_is_removed_ends_within_seconds(
        self, known: KnownCallers
    ) -> None:
        token, other = known.draw("robot-7"), known.draw("robot-8")
        with (
            server_of(known.options) as server,
            caller_with(server, token) as caller,
            caller_with(server, other) as bystander,
            Stream(caller) as stream,
            Stream(bystander) as another,
        ):
            stream.step()
            another.step()
            began = time.monotonic()
            known.forget(token)
            refused = refusal_that_ends(stream)
            assert time.monotonic() - began < PATIENCE_S / 2
            assert refused.reason == "CALLER_UNKNOWN"
            with pytest.raises(Refused) as caught:
                caller.get(stream.session.id)
            assert caught.value.reason == "CALLER_UNKNOWN"
            another.step()

    def test_two_tokens_of_one_name_reach_one_owners_sessions(self, known: KnownCallers) -> None:
        first = known.draw("robot-7")
        with (
            server_of(known.options) as server,
            caller_with(server, first) as caller,
            Stream(caller) as stream,
        ):
            stream.step()
            second = known.draw("robot-7")
            with caller_with(server, second) as successor:
                until(lambda: admits(successor))
                assert successor.get(stream.session.id).next_step == 1
                stream.step()
                known.forget(first)
                assert refusal_that_ends(stream).reason == "CALLER_UNKNOWN"
                assert successor.get(stream.session.id).next_step == 2

    @pytest.mark.lengthy
    def test_broken_file_leaves_the_last_good_one_and_is_said_once(
        self, known: KnownCallers, caplog: pytest.LogCaptureFixture
    ) -> None:
        token = known.draw("robot-7")
        good = known.tokens.read_text()
        with (
            server_of(known.options) as server,
            caller_with(server, token) as caller,
            caplog.at_level(logging.INFO),
            Stream(caller) as stream,
        ):
            known.tokens.write_text("robot-7 " + token)
            until(lambda: "line 1: expected a name" in caplog.text)
            # Two looks later it is still broken.
            later = time.monotonic() + 2.5
            until(lambda: time.monotonic() > later)
            stream.step()
            assert admits(caller)
            assert caplog.text.count("line 1: expected a name") == 1
            # What a token is, is no matter for a log.
            assert token not in caplog.text
            known.tokens.write_text(good)
            until(lambda: "is as it was before" in caplog.text)
            stream.step()


class TestLooking:
    def test_fault_while_files_are_read_does_not_end_the_looking(
        self, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "callers.toml"
        path.write_text("")

        def parse(content: bytes) -> Owners:
            if content == b"upset":
                raise ArithmeticError("upset by a file")
            return Owners.parse(content)

        async def look() -> None:
            access = Access(owners=Files("--callers", (path,), parse))
            changed = asyncio.Event()
            looking = asyncio.create_task(access.keep_looking(changed.set, 0.001))
            path.write_text("upset")
            while "upset by a file" not in caplog.text:
                await asyncio.sleep(0.001)
            path.write_text("limits.max_sessions = 3")
            await asyncio.wait_for(changed.wait(), PATIENCE_S)
            assert access.quotas.max_sessions("anybody") == 3
            looking.cancel()

        asyncio.run(asyncio.wait_for(look(), PATIENCE_S))


class TestCallers:
    def test_stream_of_a_certificate_that_is_refused_by_name_ends(
        self, tmp_path: pathlib.Path, authority: Authority
    ) -> None:
        certificate, key, ca = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt"
        authority.server().write(certificate, key)
        ca.write_bytes(authority.certificate)
        callers = tmp_path / "callers.toml"
        callers.write_text("")
        options: dict[str, Any] = {
            "tls_certificate": certificate,
            "tls_key": key,
            "tls_client_ca": ca,
            "callers": callers,
        }
        own = channel_credentials(authority, authority.client("robot"))
        with (
            server_of(options) as server,
            Caller(server.address, credentials=own) as caller,
            Stream(caller) as stream,
        ):
            stream.step()
            callers.write_text('refused = ["cert:CN=robot"]')
            assert "cert:CN=robot is refused" in refusal_that_ends(stream).metadata["problem"]
            # On the connection that is open already.
            assert not admits(caller)

    def test_stream_of_a_caller_that_is_refused_ends(self, tmp_path: pathlib.Path) -> None:
        known = KnownCallers(tmp_path)
        token = known.draw("robot-7")
        with (
            server_of(known.options) as server,
            caller_with(server, token) as caller,
            Stream(caller) as stream,
        ):
            known.callers.write_text('refused = ["token:robot-7"]')
            assert "is refused" in refusal_that_ends(stream).metadata["problem"]

    def test_stream_of_a_caller_with_another_owner_ends(self, tmp_path: pathlib.Path) -> None:
        known = KnownCallers(tmp_path)
        token = known.draw("robot-7")
        with (
            server_of(known.options) as server,
            caller_with(server, token) as caller,
            Stream(caller) as stream,
        ):
            known.callers.write_text('callers."token:robot-7".role = "operator"')
            until(lambda: is_operator(caller))
            stream.step()
            known.callers.write_text('callers."token:robot-7".owner = "fleet"')
            assert "its owner has changed" in refusal_that_ends(stream).metadata["problem"]

    def test_limits_change_while_streams_are_open(self, tmp_path: pathlib.Path) -> None:
        known = KnownCallers(tmp_path)
        token = known.draw("robot-7")
        with (
            server_of(known.options) as server,
            caller_with(server, token) as caller,
            Stream(caller) as stream,
        ):
            stream.step()
            known.callers.write_text("limits.max_sessions = 1\nlimits.max_ticks_per_s = 0.001")
            until(lambda: reason_of(caller.create) == "OWNER_SESSIONS_FULL")
            stream.step()
            assert reason_of(stream.step) == "OWNER_RATE_EXCEEDED"
            known.callers.write_text("")
            until(lambda: reason_of(stream.step) == "")


def server_of(options: dict[str, Any]) -> InProcessServer:
    return InProcessServer([served(CountingCell())], **options)


@contextlib.contextmanager
def caller_with(server: InProcessServer, token: str) -> Iterator[Caller]:
    with Caller(server.address, authorization=f"Bearer {token}") as caller:
        yield caller


def reaches(server: InProcessServer, credentials: grpc.ChannelCredentials) -> bool:
    """Says whether a new connection comes about."""
    with Caller(server.address, credentials=credentials) as caller:
        try:
            caller.create()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
    return True


def reason_of(call: Callable[[], object]) -> str:
    """Returns for which reason a call is refused; "" if it is not."""
    try:
        call()
    except Refused as refused:
        return str(refused.reason)
    return ""


def admits(caller: Caller) -> bool:
    return reason_of(caller.create) != "CALLER_UNKNOWN"


def is_operator(caller: Caller) -> bool:
    request = pb.ListSessionsRequest(owner="nobody")
    call = caller.sessions.ListSessions
    return reason_of(lambda: caller.call(call, request)) != "OPERATORS_ONLY"

"""The client knows its server and shows who it is, and goes on when that is renewed."""

from __future__ import annotations

import logging
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from doubles.authority import Authority, encrypted
from doubles.counted_source import wait_until
from doubles.counting_cell import CountingCell, counting_outputs
from doubles.in_process_server import InProcessServer, served
from doubles.known_callers import KnownCallers
from tickcell.client import Credentials, Session, errors, unary_calls
from tickcell.client.link import Link

# A server that does not come about is given up soon.
RETRY_FOR_S = 0.2


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


class House:
    """A server with TLS, client certificates and tokens, and what a client needs for it."""

    def __init__(self, directory: pathlib.Path, authority: Authority) -> None:
        self._directory = directory
        self.known = KnownCallers(directory)
        self.ca = self.write("ca.crt", authority.certificate)
        own = authority.server()
        self.server_tls: dict[str, Any] = {
            "tls_certificate": self.write("tls.crt", own.certificate),
            "tls_key": self.write("tls.key", own.key),
        }
        robot = authority.client("robot", ["spiffe://plant/robot-7"])
        self.certificate = self.write("robot.crt", robot.certificate)
        self.key = self.write("robot.key", robot.key)
        self.token_file = self.write("token", f"{self.known.draw('robot-7')}\n".encode())

    def write(self, name: str, content: bytes) -> pathlib.Path:
        path = self._directory / name
        path.write_bytes(content)
        return path

    def server(self, **options: Any) -> InProcessServer:
        return InProcessServer([served(CountingCell())], **options)


@pytest.fixture
def house(tmp_path: pathlib.Path, authority: Authority) -> House:
    return House(tmp_path, authority)


def owner_of(address: str, credentials: Credentials | None) -> str:
    """Creates a session, steps it in all three ways, and returns whose it is."""
    frames = np.ones((30, 1), np.float32)
    with Session.create(address, credentials=credentials, retry_for_s=RETRY_FOR_S) as session:
        outputs = [session.step(frames[0]), *session.steps(frames[1:10])]
        outputs.extend(session.stream(frames[10:]))
        np.testing.assert_array_equal(np.stack(outputs), counting_outputs(frames))
        with Session.attach(
            address, session.id, credentials=credentials, retry_for_s=RETRY_FOR_S
        ) as attached:
            assert attached.next_step == 30
            attached.detach()
        return session.info.owner


class TestTls:
    def test_all_ways_to_step_go_over_tls(self, house: House) -> None:
        with house.server(**house.server_tls) as server:
            assert owner_of(server.address, Credentials(ca=house.ca)) == ""

    def test_own_certificate_is_shown(self, house: House) -> None:
        credentials = Credentials(ca=house.ca, certificate=house.certificate, key=house.key)
        with house.server(**house.server_tls, tls_client_ca=house.ca) as server:
            assert owner_of(server.address, credentials) == "cert:spiffe://plant/robot-7"
            with pytest.raises(errors.UnavailableError):
                owner_of(server.address, Credentials(ca=house.ca))

    def test_server_of_another_authority_or_name_is_not_trusted(
        self, house: House, authority: Authority
    ) -> None:
        with house.server(**house.server_tls) as server:
            for credentials in (
                Credentials(tls=True),
                Credentials(ca=house.write("other.crt", Authority().certificate)),
                Credentials(ca=house.ca, server_name="another.example"),
                None,
            ):
                with pytest.raises(errors.UnavailableError):
                    owner_of(server.address, credentials)

    def test_server_may_go_by_another_name_than_its_address(
        self, house: House, authority: Authority
    ) -> None:
        own = authority.server("tickcell.example")
        own.write(house.server_tls["tls_certificate"], house.server_tls["tls_key"])
        with house.server(**house.server_tls) as server:
            with pytest.raises(errors.UnavailableError):
                owner_of(server.address, Credentials(ca=house.ca))
            named = Credentials(ca=house.ca, server_name="tickcell.example")
            assert owner_of(server.address, named) == ""


class TestTokens:
    @pytest.mark.parametrize("is_file", [False, True])
    def test_token_is_shown_over_tls_and_on_loopback(self, is_file: bool, house: House) -> None:
        token = house.token_file.read_text().strip()
        shown: dict[str, Any] = {"token_file": house.token_file} if is_file else {"token": token}
        with house.server(**house.known.options) as server:
            assert owner_of(server.address, Credentials(**shown)) == "token:robot-7"
        with house.server(**house.known.options, **house.server_tls) as server:
            credentials = Credentials(ca=house.ca, **shown)
            assert owner_of(server.address, credentials) == "token:robot-7"

    def test_token_that_is_not_known_is_refused_at_once(self, house: House) -> None:
        with house.server(**house.known.options) as server:
            for credentials in (None, Credentials(token="tickcell_wrong")):
                with pytest.raises(errors.CallerUnknownError):
                    Session.create(server.address, credentials=credentials)

    @pytest.mark.parametrize(
        "address", ["192.0.2.1:50061", "robot.example:50061", "[2001:db8::1]:50061"]
    )
    def test_token_is_not_shown_over_plain_text_to_another_machine(self, address: str) -> None:
        with pytest.raises(errors.CredentialsError, match="over plain text, where others"):
            Link(address, credentials=Credentials(token="tickcell_x"))
        with pytest.raises(errors.CredentialsError, match="over plain text, where others"):
            Link(["localhost:1", address], credentials=Credentials(token="tickcell_x"))
        Link(address, credentials=Credentials(token="tickcell_x", tls=True)).close()

    def test_whichever_of_several_servers_answers_is_shown_the_same(self, house: House) -> None:
        credentials = Credentials(ca=house.ca, token_file=house.token_file)
        with house.server(**house.known.options, **house.server_tls) as server:
            for number in range(6):
                # Nobody listens on the first; the sessions' own order is another for each.
                listed = ["localhost:1", server.address]
                with Session.create(listed, f"car-{number}", credentials=credentials) as session:
                    assert session.info.owner == "token:robot-7"
                    assert list(session.stream([[1.0]])) == [[1.0]]

    def test_token_is_in_no_text_about_it(self) -> None:
        assert "tickcell_x" not in repr(Credentials(token="tickcell_x"))
        with pytest.raises(errors.CredentialsError) as caught:
            Credentials(token="tickcell_x and more")
        assert "tickcell_x" not in str(caught.value)


class TestRenewal:
    def test_stream_goes_on_when_its_token_is_exchanged(self, house: House) -> None:
        """The old token is removed amid a stream, as its file has the new one already."""
        frames = np.ones((400, 1), np.float32)
        old = house.token_file.read_text().strip()
        is_exchanged = threading.Event()

        def source() -> Iterator[np.ndarray]:
            for index, frame in enumerate(frames):
                if index == 200:
                    house.token_file.write_text(house.known.draw("robot-7"))
                    house.known.forget(old)
                    # The server ends the stream within some seconds.
                    wait_until_unknown(server.address, old)
                    is_exchanged.set()
                yield frame

        credentials = Credentials(token_file=house.token_file)
        with (
            house.server(**house.known.options) as server,
            Session.create(server.address, credentials=credentials) as session,
        ):
            outputs = np.stack(list(session.stream(source())))
        assert is_exchanged.is_set()
        np.testing.assert_array_equal(outputs, counting_outputs(frames))

    def test_unary_steps_go_on_too(self, house: House) -> None:
        old = house.token_file.read_text().strip()
        credentials = Credentials(token_file=house.token_file)
        with (
            house.server(**house.known.options) as server,
            Session.create(server.address, credentials=credentials) as session,
        ):
            assert session.step([1.0]) == [1.0]
            house.token_file.write_text(house.known.draw("robot-7"))
            house.known.forget(old)
            wait_until_unknown(server.address, old)
            assert session.step([1.0]) == [1001.0]

    def test_renewed_certificate_is_shown_on_the_next_connection(
        self, house: House, authority: Authority
    ) -> None:
        expired = authority.client("robot", age_days=2)
        credentials = Credentials(ca=house.ca, certificate=house.certificate, key=house.key)
        own = authority.client("robot")
        expired.write(house.certificate, house.key)
        with (
            house.server(**house.server_tls, tls_client_ca=house.ca) as server,
            Link(server.address, credentials=credentials, retry_for_s=RETRY_FOR_S) as link,
        ):
            with pytest.raises(errors.UnavailableError):
                list(link.do(unary_calls.list_sessions))
            own.write(house.certificate, house.key)
            assert list(link.do(unary_calls.list_sessions)) == []

    @pytest.mark.lengthy
    def test_stream_goes_on_when_its_connection_is_too_old(self, house: House) -> None:
        frames = np.ones((200, 1), np.float32)
        credentials = Credentials(ca=house.ca, certificate=house.certificate, key=house.key)

        def source() -> Iterator[np.ndarray]:
            began = time.monotonic()
            for index, frame in enumerate(frames):
                # By the clock, for longer than a connection and its last calls may last.
                time.sleep(max(0.0, began + 5.0 * index / len(frames) - time.monotonic()))
                yield frame

        with (
            house.server(
                **house.server_tls, tls_client_ca=house.ca, connection_age_s=1.0
            ) as server,
            Session.create(server.address, credentials=credentials) as session,
        ):
            outputs = np.stack(list(session.stream(source())))
        np.testing.assert_array_equal(outputs, counting_outputs(frames))

    def test_file_that_is_gone_leaves_what_was_read_and_is_said(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        credentials = Credentials(token_file=house.token_file)
        with (
            house.server(**house.known.options) as server,
            Link(server.address, credentials=credentials) as link,
        ):
            house.token_file.unlink()
            with caplog.at_level(logging.WARNING):
                assert list(link.do(unary_calls.list_sessions)) == []
        assert "No such file or directory. The previous content still applies." in caplog.text


class TestLimits:
    def test_stream_above_the_rate_is_slowed_down_and_loses_nothing(self, house: House) -> None:
        house.known.callers.write_text("limits.max_ticks_per_s = 200")
        frames = np.ones((500, 1), np.float32)
        credentials = Credentials(token_file=house.token_file)
        with (
            house.server(**house.known.options) as server,
            Session.create(server.address, credentials=credentials) as session,
        ):
            began = time.monotonic()
            outputs = np.stack(list(session.stream(frames)))
            took_s = time.monotonic() - began
        np.testing.assert_array_equal(outputs, counting_outputs(frames))
        # 200 at once, and the others, but for the last request's, at 200 a second.
        assert took_s > (500 - 200 - 32) / 200

    def test_session_waits_for_room(self, house: House) -> None:
        house.known.callers.write_text("limits.max_sessions = 1")
        credentials = Credentials(token_file=house.token_file)
        with house.server(**house.known.options) as server:
            first = Session.create(server.address, credentials=credentials)
            timer = threading.Timer(0.5, first.close)
            timer.start()
            with Session.create(server.address, credentials=credentials) as second:
                assert second.next_step == 0
            timer.join()
            with (
                Session.create(server.address, credentials=credentials),
                pytest.raises(errors.OwnerSessionsFullError, match="which is its limit"),
            ):
                Session.create(server.address, credentials=credentials, retry_for_s=RETRY_FOR_S)


class TestMeaning:
    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"certificate": "a"}, "key: is missing"),
            ({"key": "a"}, "certificate: is missing"),
            ({"token": "a", "token_file": "b"}, "expected one of two"),
            ({"token": "a b"}, "expected one token"),
            ({"token": "ä"}, "expected one token"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, given: dict[str, Any], said: str) -> None:
        with pytest.raises(errors.CredentialsError, match=said):
            Credentials(**given)

    @pytest.mark.parametrize("name", ["ca", "certificate", "key", "token_file"])
    def test_file_that_cannot_be_used_is_named_before_anything_is_sent(
        self, name: str, house: House
    ) -> None:
        credentials: dict[str, Any] = {
            "ca": house.ca,
            "certificate": house.certificate,
            "key": house.key,
            "token_file": house.token_file,
        }
        credentials[name] = house.write("broken", b"")
        with pytest.raises(errors.CredentialsError, match="broken"):
            Link("localhost:1", credentials=Credentials(**credentials))
        credentials[name].unlink()
        with pytest.raises(errors.CredentialsError, match="broken: No such file"):
            Link("localhost:1", credentials=Credentials(**credentials))

    def test_key_that_wants_a_password_is_refused(self, house: House, authority: Authority) -> None:
        encrypted(authority.client("robot"), b"secret").write(house.certificate, house.key)
        credentials = Credentials(certificate=house.certificate, key=house.key)
        with pytest.raises(errors.CredentialsError, match="the key is encrypted"):
            Link("localhost:1", credentials=credentials)

    def test_environment_says_what_the_commands_go_by(self) -> None:
        told = {
            "TICKCELL_TLS": "1",
            "TICKCELL_CA": "ca.crt",
            "TICKCELL_CERTIFICATE": "own.crt",
            "TICKCELL_KEY": "own.key",
            "TICKCELL_SERVER_NAME": "tickcell.example",
            "TICKCELL_TOKEN_FILE": "token",
        }
        assert Credentials.from_environment(told) == Credentials(
            tls=True,
            ca="ca.crt",
            certificate="own.crt",
            key="own.key",
            server_name="tickcell.example",
            token_file="token",
        )
        assert Credentials.from_environment({"TICKCELL_TOKEN": "a"}) == Credentials(token="a")
        assert Credentials.from_environment({"TICKCELL_CA": ""}) == Credentials()
        with pytest.raises(errors.CredentialsError, match="TICKCELL_TLS: got 'maybe'"):
            Credentials.from_environment({"TICKCELL_TLS": "maybe"})


def wait_until_unknown(address: str, token: str) -> None:
    """Waits until a server has read that a token is gone."""
    with Link(address, credentials=Credentials(token=token)) as link:
        wait_until(lambda: is_unknown(link))


def is_unknown(link: Link) -> bool:
    """Says whether a server does not know who calls over a link."""
    try:
        list(link.do(unary_calls.list_sessions))
    except errors.CallerUnknownError:
        return True
    return False

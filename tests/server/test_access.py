"""Who comes in, and how: TLS, client certificates and tokens, with real certificates."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from doubles.authority import Authority, Certified, channel_credentials, encrypted
from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from doubles.known_callers import KnownCallers
from tickcell.conformance.caller import PATIENCE_S, Caller, StreamPath, refused_for
from tickcell.server.config import Config, ConfigError
from tickcell.server.files import FileError
from tickcell.server.listening import ListenError

SPIFFE = "spiffe://plant/robot-7"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def stranger() -> Authority:
    return Authority("another authority")


class House:
    """A server's files, and the servers that read them."""

    def __init__(self, directory: pathlib.Path, authority: Authority) -> None:
        self.known = KnownCallers(directory)
        self.certificate, self.key = directory / "tls.crt", directory / "tls.key"
        self.client_ca = directory / "ca.crt"
        authority.server().write(self.certificate, self.key)
        self.client_ca.write_bytes(authority.certificate)
        self.tls: dict[str, Any] = {"tls_certificate": self.certificate, "tls_key": self.key}
        self.mutual: dict[str, Any] = {**self.tls, "tls_client_ca": self.client_ca}

    def server(self, **options: Any) -> InProcessServer:
        return InProcessServer([served(CountingCell())], **options)


@pytest.fixture
def house(tmp_path: pathlib.Path, authority: Authority) -> House:
    return House(tmp_path, authority)


@contextlib.contextmanager
def unreachable() -> Iterator[None]:
    """Expects that no connection comes about."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


class TestMatrix:
    """Every kind of server against every kind of caller."""

    SERVERS = ("plain", "tls", "mutual")
    CERTIFICATES = ("none", "trusted", "stranger's", "expired")
    TOKENS = ("none", "known", "unknown", "not a token")

    @pytest.fixture
    def certificates(self, authority: Authority, stranger: Authority) -> dict[str, Any]:
        return {
            "none": None,
            "trusted": authority.client("robot", [SPIFFE]),
            "stranger's": stranger.client("robot", [SPIFFE]),
            "expired": authority.client("robot", [SPIFFE], age_days=2),
        }

    @pytest.mark.parametrize("kind", SERVERS)
    @pytest.mark.parametrize("asks_tokens", [False, True], ids=["", "tokens"])
    def test_caller_is_whom_it_proves_to_be(
        self,
        kind: str,
        asks_tokens: bool,
        house: House,
        certificates: dict[str, Any],
        authority: Authority,
    ) -> None:
        options = {"plain": {}, "tls": house.tls, "mutual": house.mutual}[kind]
        known = f"Bearer {house.known.draw('robot-7')}"
        shown = {
            "none": "",
            "known": known,
            "unknown": "Bearer tickcell_wrong",
            "not a token": "Basic cm9ib3Q6Nw==",
        }
        if asks_tokens:
            options = {**options, **house.known.options}
        with house.server(**options) as server:
            for own, token in itertools.product(self.CERTIFICATES, self.TOKENS):
                if kind == "plain" and own != "none":
                    continue
                credentials = (
                    None if kind == "plain" else channel_credentials(authority, certificates[own])
                )
                with Caller(
                    server.address, credentials=credentials, authorization=shown[token]
                ) as caller:
                    expected = self.expected(kind, asks_tokens, own, token)
                    if expected == "unreachable":
                        with unreachable():
                            caller.create()
                    elif expected == "unknown":
                        with refused_for("CALLER_UNKNOWN"):
                            caller.create()
                    else:
                        assert caller.create().owner == expected, (own, token)

    def expected(self, kind: str, asks_tokens: bool, own: str, token: str) -> str:
        if kind == "mutual" and own != "trusted":
            return "unreachable"
        if asks_tokens and token != "none":
            return "token:robot-7" if token == "known" else "unknown"
        if kind == "mutual":
            return f"cert:{SPIFFE}"
        return "unknown" if asks_tokens else ""

    @pytest.mark.parametrize("kind", ["tls", "mutual"])
    def test_plain_text_does_not_reach_a_server_with_tls(self, kind: str, house: House) -> None:
        with (
            house.server(**getattr(house, kind)) as server,
            Caller(server.address) as caller,
            unreachable(),
        ):
            caller.create()

    def test_server_of_a_stranger_is_not_trusted(self, house: House, stranger: Authority) -> None:
        with (
            house.server(**house.tls) as server,
            Caller(server.address, credentials=channel_credentials(stranger)) as caller,
            unreachable(),
        ):
            caller.create()


class TestCertificateName:
    @pytest.mark.parametrize(
        ("name", "uris", "owner"),
        [
            ("robot", [SPIFFE], f"cert:{SPIFFE}"),
            ("robot", [], "cert:CN=robot"),
            ("a,CN=b", [], "cert:CN=a\\,CN=b"),
            ("", [SPIFFE], f"cert:{SPIFFE}"),
        ],
    )
    def test_name_is_the_uri_or_else_the_subject(
        self, name: str, uris: list[str], owner: str, house: House, authority: Authority
    ) -> None:
        assert self.created(house, authority, authority.client(name, uris)) == owner

    @pytest.mark.parametrize(
        ("name", "uris", "problem"),
        [
            ("robot", [SPIFFE, "spiffe://plant/robot-8"], "several URIs"),
            ("", [], "no name"),
            ("robot", ["spiffe://plant/" + "r" * 250], "no name"),
        ],
    )
    def test_certificate_that_names_nobody_in_particular_is_refused(
        self, name: str, uris: list[str], problem: str, house: House, authority: Authority
    ) -> None:
        with refused_for("CALLER_UNKNOWN") as metadata:
            self.created(house, authority, authority.client(name, uris))
        assert problem in metadata["problem"]

    def created(self, house: House, authority: Authority, own: Certified) -> str:
        credentials = channel_credentials(authority, own)
        with (
            house.server(**house.mutual) as server,
            Caller(server.address, credentials=credentials) as caller,
        ):
            return caller.create().owner


class TestServingAnew:
    def test_server_that_grpc_has_stopped_serves_anew_with_tls(
        self, house: House, authority: Authority
    ) -> None:
        """Some versions of gRPC stop serving at a method's name that is not UTF-8."""
        credentials = channel_credentials(authority)
        with house.server(**house.tls) as server:
            with Caller(server.address, credentials=credentials) as caller:
                call: Any = caller.channel.unary_unary(b"/\xff\xfe")  # type: ignore[arg-type]
                with pytest.raises(grpc.RpcError):
                    call(b"", timeout=PATIENCE_S)
            deadline = time.monotonic() + PATIENCE_S
            while True:
                with Caller(server.address, credentials=credentials) as caller:
                    try:
                        assert caller.create().next_step == 0
                    except grpc.RpcError:
                        assert time.monotonic() < deadline
                    else:
                        break


class TestConnectionAge:
    @pytest.mark.lengthy
    def test_stream_of_a_certificate_ends_when_its_connection_is_too_old(
        self, house: House, authority: Authority
    ) -> None:
        credentials = channel_credentials(authority, authority.client("robot"))
        with (
            house.server(**house.mutual, connection_age_s=1.0) as server,
            Caller(server.address, credentials=credentials) as caller,
            StreamPath(caller) as stream,
            pytest.raises(grpc.RpcError) as caught,
        ):
            stream.receive()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "max connection age" in (caught.value.details() or "")


class TestOwners:
    def test_standby_with_its_own_certificate_takes_a_session_over(
        self, house: House, authority: Authority
    ) -> None:
        house.known.callers.write_text(
            f"""
            [callers]
            "cert:{SPIFFE}" = {{ owner = "robot-7" }}
            "cert:{SPIFFE}-standby" = {{ owner = "robot-7" }}
            """
        )
        with house.server(**house.mutual, callers=house.known.callers) as server:
            callers = {}
            with contextlib.ExitStack() as stack:
                for name in ("", "-standby", "-other"):
                    own = authority.client("robot", [f"{SPIFFE}{name}"])
                    credentials = channel_credentials(authority, own)
                    callers[name] = stack.enter_context(
                        Caller(server.address, credentials=credentials)
                    )
                session = callers[""].create(session="drive")
                assert session.owner == "robot-7"
                assert callers["-standby"].get("drive") == session
                with refused_for("SESSION_UNKNOWN"):
                    callers["-other"].get("drive")

    def test_caller_that_is_refused_by_name_is_unknown(self, house: House) -> None:
        house.known.callers.write_text('refused = ["token:old"]')
        token = house.known.draw("old")
        with (
            house.server(**house.known.options) as server,
            Caller(server.address, authorization=f"Bearer {token}") as caller,
            refused_for("CALLER_UNKNOWN") as metadata,
        ):
            caller.create()
        assert "token:old is refused" in metadata["problem"]


class TestPlainText:
    def test_token_from_another_machine_is_refused(self, house: House) -> None:
        own = _own_address()
        known = f"Bearer {house.known.draw('robot-7')}"
        options = {"listen": f"{own}:0", "insecure": True, **house.known.options}
        with (
            house.server(**options) as server,
            Caller(server.address, authorization=known) as caller,
            refused_for("CALLER_UNKNOWN") as metadata,
        ):
            caller.create()
        assert "over plain text" in metadata["problem"]

    @pytest.mark.parametrize("listen", ["localhost:0", "127.0.0.1:0", "[::1]:0", "unix:socket"])
    def test_token_within_the_machine_is_taken(
        self, listen: str, house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        known = f"Bearer {house.known.draw('robot-7')}"
        with (
            house.server(listen=listen, **house.known.options) as server,
            Caller(server.address, authorization=known) as caller,
        ):
            assert caller.create().owner == "token:robot-7"

    def test_address_that_others_reach_needs_tls_or_a_word(self, house: House) -> None:
        with pytest.raises(ListenError, match="--insecure to allow it"):
            house.server(listen="0.0.0.0:0")
        with house.server(listen="0.0.0.0:0", **house.tls):
            pass
        with house.server(listen="0.0.0.0:0", insecure=True):
            pass


class TestConfig:
    @pytest.mark.parametrize(
        ("names", "said"),
        [
            ({"tls_certificate"}, "tls_key: is missing"),
            ({"tls_key"}, "tls_certificate: is missing"),
            ({"tls_client_ca"}, "tls_client_ca: needs --tls-certificate"),
            ({"callers"}, "callers: needs --tokens or --tls-client-ca"),
        ],
    )
    def test_what_goes_together_is_asked_for_together(self, names: set[str], said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            Config(durability="none", **{name: pathlib.Path("file") for name in names})  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["certificate", "key", "client_ca"])
    @pytest.mark.parametrize(
        ("content", "said"), [(None, "No such file"), (b"", "as PEM"), (b"\xff\0", "as PEM")]
    )
    def test_file_that_is_no_certificate_ends_the_start(
        self, name: str, content: bytes | None, said: str, house: House
    ) -> None:
        path: pathlib.Path = getattr(house, name)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(FileError, match=said) as caught:
            house.server(**house.mutual)
        assert str(path) in str(caught.value)

    def test_key_of_another_certificate_ends_the_start(
        self, house: House, authority: Authority
    ) -> None:
        house.key.write_bytes(authority.server().key)
        with pytest.raises(FileError, match="key values mismatch"):
            house.server(**house.tls)

    def test_key_that_wants_a_password_ends_the_start(
        self, house: House, authority: Authority
    ) -> None:
        encrypted(authority.server(), b"secret").write(house.certificate, house.key)
        with pytest.raises(FileError, match="the key is encrypted"):
            house.server(**house.tls)


def _own_address() -> str:
    """Returns an address of this machine that is not a loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # No packet is sent: it is only asked which way it would go.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address that others could reach")
        host: str = probe.getsockname()[0]
    return host

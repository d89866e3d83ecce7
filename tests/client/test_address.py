"""An address that cannot be meant is refused; what is on this machine needs no proxy."""

from __future__ import annotations

import socket

import pytest

from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, address, errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "HOST:PORT or unix:PATH"),
        ("nowhere", "HOST:PORT or unix:PATH"),
        ("host:port", "HOST:PORT or unix:PATH"),
        ("http://host:1", "HOST:PORT or unix:PATH"),
        ("user@host:1", "HOST:PORT or unix:PATH"),
        ("host:1/path", "HOST:PORT or unix:PATH"),
        ("two words:1", "HOST:PORT or unix:PATH"),
        ("::1:50061", "HOST:PORT or unix:PATH"),
        ("host:٥٠٠٦١", "HOST:PORT or unix:PATH"),
        ("host:-1", "HOST:PORT or unix:PATH"),
        ("unix:", "HOST:PORT or unix:PATH"),
        ("host:0", "a port from 1 to 65535"),
        ("host:65536", "a port from 1 to 65535"),
        ("127.0.0.1:85659", "a port from 1 to 65535"),
        ("[nonsense]:1", "an IPv6 address in the brackets"),
        ("[127.0.0.1]:1", "an IPv6 address in the brackets"),
        ("256.0.0.1:1", "four numbers from 0 to 255"),
        ("127.1:1", "four numbers from 0 to 255"),
        ("2130706433:1", "four numbers from 0 to 255"),
        ("0x7f000001:1", "four numbers from 0 to 255"),
        ("..:1", "four numbers from 0 to 255"),
        ("a..b:1", "a host name before the port"),
        (".a:1", "a host name before the port"),
    ],
)
def test_what_cannot_be_an_address_is_refused_at_once(text: str, expected: str) -> None:
    with pytest.raises(
        errors.AddressError, match=f"got {text!r}, expected {expected}".replace("[", r"\[")
    ):
        Session.create(text)


@pytest.mark.parametrize("text", [None, 50061, b"localhost:50061", ("localhost", 50061)])
def test_an_address_is_a_string(text: object) -> None:
    with pytest.raises(errors.AddressError, match="expected a string"):
        Session.create(text)  # type: ignore[arg-type] # the caller's mistake


@pytest.mark.parametrize(
    "text",
    [
        "localhost:1",
        "LOCALHOST:1",
        "localhost.:1",
        "robot.localhost:1",
        "127.0.0.1:1",
        "127.0.0.2:1",
        "0.0.0.0:1",
        "[::]:1",
        "[::1]:1",
        "[::ffff:127.0.0.3]:1",
        "unix:/run/tickcell",
        f"{socket.gethostname()}:1",
        f"{socket.gethostname().upper()}:1",
    ],
)
def test_what_is_on_this_machine_is_known(text: str) -> None:
    assert address.parse(text).is_local


@pytest.mark.parametrize(
    # Of the last, 192.0.2.0/24 and 2001:db8::/32 are for documents alone.
    "text",
    ["car.example:50061", "localhost.example:1", "192.0.2.1:1", "[2001:db8::1]:65535"],
)
def test_what_is_elsewhere_is_known(text: str) -> None:
    parsed = address.parse(text)
    assert (str(parsed), parsed.is_local) == (text, False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "LocalHost", "0.0.0.0"])
def test_a_server_on_this_machine_is_reached_past_a_proxy(
    tcp_server: ServerProcess, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    # Nobody listens there.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    port = tcp_server.address.rpartition(":")[2]
    with Session.create(f"{host}:{port}", retry_for_s=0) as session:
        assert session.next_step == 0

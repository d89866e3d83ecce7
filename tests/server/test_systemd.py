"""What systemd is told: that the server serves, goes on, and stops."""

from __future__ import annotations

import contextlib
import pathlib
import signal
import socket
from collections.abc import Iterator

import pytest

from server.serve_process import PATIENCE_S, ServeProcess
from tickcell.server.monitoring import systemd

IN_MEMORY = ("--durability", "none", "--listen", "localhost:0")


class Manager:
    """The socket of a service manager.

    Attributes:
      path: as NOTIFY_SOCKET names it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE_S)
        self._socket.bind("\0" + path[1:] if path.startswith("@") else path)

    def hear(self) -> list[str]:
        """Returns the assignments of the next message."""
        return self._socket.recv(4096).decode().splitlines()

    def is_silent_for(self, seconds: float) -> bool:
        """Whether nothing is said from now on for so long."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(4096)
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(4096)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(PATIENCE_S)
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Manager]:
    name = str(tmp_path / "notify")
    opened = Manager(name if request.param == "path" else f"@{name}")
    yield opened
    opened.close()


def test_service_is_ready_when_it_serves_then_beats_then_stops(manager: Manager) -> None:
    settings = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"}
    with ServeProcess(*IN_MEMORY, **settings) as server:
        heard = [manager.hear() for _ in range(4)]
        assert ["READY=1", f"STATUS=serving on {server.address}"] in heard
        assert heard.count(["WATCHDOG=1"]) == 3
        server.send(signal.SIGTERM)
        while (said := manager.hear()) == ["WATCHDOG=1"]:
            pass
        assert said == ["STOPPING=1", "STATUS=draining"]
        assert server.wait()[0] == 0


def test_watchdog_is_not_fed_where_it_does_not_watch(manager: Manager) -> None:
    # Of another process, as where a wrapper is the service.
    settings = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    with ServeProcess(*IN_MEMORY, **settings) as server:
        assert manager.hear()[0] == "READY=1"
        server.send(signal.SIGTERM)
        assert manager.hear()[0] == "STOPPING=1"
        assert server.wait()[0] == 0


def test_manager_that_is_gone_is_logged_and_harms_nothing(tmp_path: pathlib.Path) -> None:
    with ServeProcess(*IN_MEMORY, NOTIFY_SOCKET=str(tmp_path / "gone")) as server:
        status, log = server.end(signal.SIGTERM)
    assert status == 0
    assert "could not notify the service manager" in log
    assert "of 'READY=1" in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_watchdog_is_as_systemd_sets_it(
    settings: dict[str, str], expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, text in settings.items():
        monkeypatch.setenv(name, text)
    assert systemd.watchdog_s() == expected

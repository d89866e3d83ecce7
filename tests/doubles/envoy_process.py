"""Envoy before replicas, by the configuration that is delivered, on ports of its own."""

from __future__ import annotations

import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from typing import Self

import pytest

CONFIGURATION = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "envoy"
# A cold disk and a loaded machine included.
PATIENCE_S = 60.0


def program() -> str:
    """Returns Envoy's program; where there is none for the platform, the test is skipped."""
    path = shutil.which("envoy", path=sysconfig.get_path("scripts"))
    if path is None and (sys.platform, platform.machine()) not in (
        ("linux", "x86_64"),
        ("linux", "aarch64"),
    ):
        pytest.skip(f"there is no wheel of Envoy for {sys.platform} on {platform.machine()}")
    assert path, "envoy is not installed; run: make test, or pip install 'tickcell[dev]'"
    return path


class EnvoyProcess:
    """A running Envoy.

    Attributes:
      address: where clients reach it.
    """

    def __init__(self, directory: pathlib.Path, replicas: Sequence[str]) -> None:
        """Starts it and waits until it serves.

        Args:
          directory: for its configuration and its log.
          replicas: the servers' addresses, `127.0.0.1:PORT`.
        """
        self._program = program()
        self._directory = directory
        port, self._admin = _free_port(), _free_port()
        self.address = f"127.0.0.1:{port}"
        text = (CONFIGURATION / "envoy.yaml").read_text(encoding="utf-8")
        for name, own in (("50060", port), ("9901", self._admin)):
            text, count = re.subn(rf"port_value: {name}\b", f"port_value: {own}", text)
            assert count == 1, name
        (directory / "envoy.yaml").write_text(text, encoding="utf-8")
        self.list(replicas)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()

    def list(self, replicas: Sequence[str]) -> None:
        """Has other servers listed, as an operator does."""
        head = (CONFIGURATION / "replicas.yaml").read_text(encoding="utf-8").splitlines()
        endpoints = [line for line in head if "- endpoint:" in line]
        own = [
            re.sub(r"port_value: \d+", f"port_value: {address.rpartition(':')[2]}", endpoints[0])
            for address in replicas
        ]
        lines = [*(line for line in head if line not in endpoints), *own]
        new = self._directory / "replicas.yaml.new"
        new.write_text("\n".join(lines) + "\n", encoding="utf-8")
        new.rename(self._directory / "replicas.yaml")

    def start(self) -> None:
        """Starts it, again too, and waits until it serves."""
        log = self._directory / "envoy.log"
        with log.open("a") as out:
            self._process = subprocess.Popen(
                [
                    *(self._program, "--config-path", "envoy.yaml", "--disable-hot-restart"),
                    *("--concurrency", "1", "--log-level", "warn"),
                ],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        until = time.monotonic() + PATIENCE_S
        while not self._is_ready():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends it as a crash does."""
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)

    def calls(self) -> Counter[str]:
        """Returns how many calls each server was given."""
        found = re.findall(
            r"^tickcell::([\d.:]+)::rq_total::(\d+)$", self._ask("clusters"), re.MULTILINE
        )
        return Counter({address: int(count) for address, count in found})

    def _is_ready(self) -> bool:
        try:
            return self._ask("ready").strip() == "LIVE"
        except (urllib.error.URLError, ConnectionError):
            return False

    def _ask(self, page: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._admin}/{page}", timeout=10) as shown:
            text: str = shown.read().decode()
        return text


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port

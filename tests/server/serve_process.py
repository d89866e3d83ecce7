"""`tickcell serve` as a person or a supervisor runs it: arguments, output, signals, exit status."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

# A cold disk and a loaded machine included.
PATIENCE_S = 60.0


class ServeProcess:
    """A running `tickcell serve`.

    Attributes:
      banner: the lines it wrote when it began to serve.
      address: where it says that it serves.
      watched: where it says that it shows metrics; "" for nowhere.
      pid: of the process.
    """

    def __init__(self, *arguments: str, **environment: str) -> None:
        """Starts it and waits until it serves.

        Args:
          *arguments: of the command.
          **environment: of the process, beside what the tests' own has.
        """
        self._process = subprocess.Popen(
            command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.pid = self._process.pid
        self.banner = self._read_banner()
        if not self.banner:
            raise AssertionError(f"it does not serve: {self.end(signal.SIGKILL)[1]}")
        self.address = self.banner[0].rpartition(" serving on ")[2]
        watched = [line for line in self.banner if line.startswith("  watch ")]
        self.watched = watched[0].split("/")[2] if watched else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self.end(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, and does not wait for what comes of it."""
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Sends a signal and waits for the end; returns the exit status and what it logged."""
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Waits for the end; returns the exit status and what it logged."""
        _, log = self._process.communicate(timeout=PATIENCE_S)
        return self._process.returncode, log

    def children(self) -> list[int]:
        """Returns the processes that it started and that live, such as its workers."""
        tasks = pathlib.Path(f"/proc/{self.pid}/task").iterdir()
        return sorted(int(pid) for task in tasks for pid in (task / "children").read_text().split())

    def _read_banner(self) -> list[str]:
        output = self._process.stdout
        assert output is not None
        text = b""
        # Its last line is the one to try the server with.
        while b"\n  try " not in text or not text.endswith(b"\n"):
            ready, _, _ = select.select([output], [], [], PATIENCE_S)
            more = os.read(output.fileno(), 4096) if ready else b""
            if not more:
                return []
            text += more
        return text.decode().splitlines()


def command(*arguments: str) -> list[str]:
    """Returns the command line of `tickcell serve`."""
    return [sys.executable, "-m", "tickcell.cli", "serve", *arguments]


def complaint(*arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> str:
    """Runs a `tickcell serve` that must not start; returns what it says.

    That is one sentence on standard error, or two, on one line; nothing on standard
    output; no traceback; and an exit status of 1.
    """
    finished = subprocess.run(
        [*prefix, *command(*arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, **environment},
    )
    assert finished.returncode == 1, finished
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert line.startswith("tickcell: ")
    assert line.endswith(".")
    assert "Traceback" not in line
    return line.removeprefix("tickcell: ")


def resident_bytes(pid: int) -> int:
    """Returns how much memory a process has resident."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")

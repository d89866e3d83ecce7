"""A server as a child process: for `verify`, `agent`, `demo` and the tests.

It is never imported, only run: the client works without the server's code.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from tickcell.client import errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

# A cold disk and a loaded machine included.
START_S = 60.0


class ServerStartError(errors.TickcellError):
    """The server did not start; the message has its own last words."""


class ServerProcess:
    """One `tickcell serve` after another on one store, at one address."""

    def __init__(self, directory: pathlib.Path, *arguments: str, listen: str = "") -> None:
        """Prepares a server.

        Args:
          directory: for its store, its log and its socket; its path must be short enough
            for a socket's, unless `listen` says otherwise.
          *arguments: further arguments of `tickcell serve`.
          listen: `HOST:PORT`; with port 0 each start may bring another address.
        """
        self.store = directory / "store"
        self._log = directory / "server.log"
        self.address = listen or f"unix:{directory / 'socket'}"
        self._command = [
            *(sys.executable, "-m", "tickcell.cli", "serve"),
            *("--listen", self.address, "--store", str(self.store)),
            *arguments,
        ]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's id.

        Raises:
          ServerStartError: it does not run.
        """
        return self._running.pid

    def start(self) -> None:
        """Starts the server and waits until it serves.

        Raises:
          ServerStartError: it does not.
        """
        # What the caller set for servers of their own is not meant for this one.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TICKCELL_")
        }
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                # Ctrl-C is for the caller, who then stops the server.
                process_group=0,
            )
        line = self._first_line(self._process)
        if " serving on " not in line:
            self.kill()
            words = self._log.read_text().strip().splitlines() or ["it said nothing"]
            raise ServerStartError(f"the server did not start: {words[-1]}")
        self.address = line.rpartition(" serving on ")[2].strip()

    def kill(self) -> None:
        """Kills the server as a crash does: nothing in it gets to run any more."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stops the server, which answers what it has read."""
        if self._process is not None:
            self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Starts the server again, after its end, at the same address."""
        self._command[self._command.index("--listen") + 1] = self.address
        self.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the process from running at all for a while, as a debugger does."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            if self._process is not None:
                os.kill(self.pid, signal.SIGCONT)

    @property
    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise ServerStartError("the server is not running.")
        return self._process

    def _first_line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        return process.stdout.readline() if ready else ""

    def _end(self, number: signal.Signals) -> None:
        process = self._running
        self._process = None
        # Popen's end waits for the process and closes the pipe.
        with process:
            process.send_signal(number)


@contextlib.contextmanager
def temporary(*arguments: str) -> Iterator[ServerProcess]:
    """Runs a server on a store of its own, which is gone with it."""
    with (
        tempfile.TemporaryDirectory(prefix="tickcell-") as directory,
        ServerProcess(pathlib.Path(directory), *arguments) as server,
    ):
        yield server

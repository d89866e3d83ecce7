"""A program as a child process: started, stopped as asked, killed as by a loss of power."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# A cold disk and a loaded machine included.
PATIENCE_S = 60.0
_POLL_S = 0.01


class StartError(Exception):
    """A program did not start; the message has its last words."""


class Process:
    """A program that is started again and again, with one log.

    Attributes:
      name: what it is called in messages.
      log: the file of what it writes.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepares a program.

        Args:
          name: what it is called in messages.
          command: the program and its arguments.
          log: where to append what it writes.
          user: who it runs as; None for who we are.
          environment: of the program, beside ours.
        """
        self.name = name
        self.log = log
        self._command = [*_as_user(user), *command]
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process's id, as long as it is started."""
        assert self._process is not None, f"{self.name} is not started"
        return self._process.pid

    def start(self, is_ready: Callable[[], bool]) -> None:
        """Starts it, and waits until it is ready.

        Raises:
          StartError: it ended, or was not ready in time.
        """
        assert not self.is_running, f"{self.name} is running"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                env={**_environment(), **self._environment},
                # Ctrl-C is for us, and we then stop it.
                process_group=0,
            )
        until = time.monotonic() + PATIENCE_S
        while not is_ready():
            if not self.is_running or time.monotonic() > until:
                self.kill()
                raise StartError(f"{self.name} did not start: {self._last_words()}")
            time.sleep(_POLL_S)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to stop, and waits until it has; returns its exit status."""
        assert self._process is not None, f"{self.name} is not started"
        if self.is_running:
            self._process.send_signal(number)
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """Kills it and its children at once, so that nothing of them gets to run any more."""
        assert self._process is not None, f"{self.name} is not started"
        if not self.is_running:
            return
        # None of them may learn of another's end before its own.
        for pid in (pids := self.pause()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        for pid in pids:
            # Where orphans come to us, they wait to be asked what became of them.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def end(self) -> None:
        """Stops it, whether it runs, stands still, or was never started."""
        if self.is_running:
            self.resume()
            self.stop()

    def pause(self) -> list[int]:
        """Keeps it and its children from running until `resume`; returns their ids."""
        pids = [self.pid]
        # A parent that stands still has no further children.
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
            pids += _children(pid)
        return pids

    def resume(self) -> None:
        """Lets it run on."""
        pids = [self.pid]
        for pid in pids:
            pids += _children(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        os.kill(self.pid, number)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def run(command: Sequence[str], *, user: str | None = None) -> str:
    """Runs a program to its end; returns what it wrote to its standard output.

    Raises:
      StartError: it failed.
    """
    done = subprocess.run(
        [*_as_user(user), *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        cwd="/",
        env=_environment(),
    )
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise StartError(f"{Path(command[0]).name} failed: {words[-1]}")
    return str(done.stdout)


def free_port() -> int:
    """Returns a TCP port of the loopback interface that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def _environment() -> dict[str, str]:
    # What the caller set for programs of their own is not meant for these.
    foreign = ("TICKCELL_", "PG", "LC_", "LANG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "LC_ALL": "C.UTF-8"}


def _as_user(name: str | None) -> list[str]:
    """Returns what a command begins with that another user runs, who has no rights of ours."""
    if name is None:
        return []
    # By Python's own means the child is forked, amid threads of gRPC, which does not bear it.
    return ["setpriv", "--reuid", name, "--regid", _group(name), "--clear-groups", "--"]


def _group(user: str) -> str:
    return str(pwd.getpwnam(user).pw_gid)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    # A process may end while we look.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found

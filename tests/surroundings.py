"""What a test run sets for itself and its children, so that it inherits nothing of chance."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

# By name. A test that is about one of them sets it itself.
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "TZ": "UTC", "COLUMNS": "80"}
# What a person has set for servers of their own, or for the way to other machines.
_FOREIGN = re.compile(r"(TICKCELL_(?!RECORDINGS$)|LC_(?!ALL$)|LANGUAGE$).*|.*_proxy", re.IGNORECASE)

# How long the kernel may take to end a process.
_ENDING_S = 5.0

# From linux/prctl.h.
_PR_SET_CHILD_SUBREAPER = 36


def settle() -> None:
    """Sets environment, signals and file mode; children inherit all of them."""
    for name in [name for name in os.environ if _FOREIGN.fullmatch(name)]:
        del os.environ[name]
    os.environ.update(_ENVIRONMENT)
    time.tzset()
    os.umask(0o022)
    # A shell's background job ignores Ctrl-C, and its children would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # A child's child comes to us when the child is gone, and so is seen below.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """Returns the processes that this one has started and that run still."""
    found = set()
    for path in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found |= set(map(int, (path / "children").read_text().split()))
    return {pid for pid in found if _runs(pid)}


@contextlib.contextmanager
def left_behind() -> Iterator[dict[int, str]]:
    """Ends the processes that the block leaves behind; gives their command lines at its end."""
    before, left = children(), dict[int, str]()
    yield left
    # One that is ending has no command line any more, and is gone in a moment.
    until = time.monotonic() + _ENDING_S
    while time.monotonic() < until and not all(map(_command_line, children() - before)):
        time.sleep(0.01)
    left.update({pid: _command_line(pid) for pid in children() - before})
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _command_line(pid: int) -> str:
    """Returns what a process was started with."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return "?"


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}

"""Who holds locks on a file, from the kernel's table; the file is not opened."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

_TABLE = pathlib.Path("/proc/locks")


class Held(NamedTuple):
    """A lock that a process of this PID namespace holds on a file, from byte `start` on."""

    pid: int
    start: int


def locks_on(path: pathlib.Path) -> list[Held]:
    """Returns the locks on a file; none if it is not there."""
    try:
        inode = path.stat().st_ino
    except FileNotFoundError:
        return []
    found = []
    for line in _TABLE.read_text().splitlines():
        # 1: POSIX  ADVISORY  READ 1234 fe:00:5678 124 124
        fields = line.split()
        if "->" in fields:
            continue  # It waits.
        pid, place, start = fields[4:7]
        # Not the device: Btrfs and overlays give another one here than stat does.
        if int(place.rpartition(":")[2]) == inode and int(pid) > 0:
            found.append(Held(int(pid), int(start)))
    return found


def name_of(pid: int) -> str:
    """Returns a process for people: its pid and the command that it runs."""
    try:
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"pid {pid}"
    words = " ".join(word.decode(errors="replace") for word in command).strip()
    return f"pid {pid}: {words[:60]}" if words else f"pid {pid}"

"""Who has the store open: one entry for each process, a file that it holds locked.

A lock is held for exactly as long as its process lives, in whichever PID namespace
and whatever became of its pid. So an entry tells, at the next start:

    lock held                         live
    lock free, this boot              killed: harmless, the kernel has all it wrote
    lock free, another boot           unclean: a power cut may have damaged the pages
    lock free, unreadable             unclean: the power cut damaged the entry itself

An entry is on the disk before the first commit of its process, and is removed after
the last sync. Entries are read and added under the guard, a lock of its own, so that
two servers that start at once see each other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import uuid
from typing import TYPE_CHECKING, Literal, NamedTuple

from tickcell.server.store.errors import OtherPidNamespaceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

State = Literal["live", "killed", "unclean"]

GUARD = "guard"
ENTRIES = "servers"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What a process says of itself.

    Attributes:
      role: "server" or "backup" or "inspect".
      pid: in its own PID namespace.
      pid_namespace: identifies that namespace.
      boot_id: identifies the boot of the machine.
      durability: what the process does for its commits.
      start_time: when it opened the store, ISO 8601 in UTC.
    """

    role: str
    pid: int
    pid_namespace: str
    boot_id: str
    durability: str
    start_time: str


class Found(NamedTuple):
    """An entry as it was found; `entry` is None where its file cannot be read."""

    path: pathlib.Path
    entry: Entry | None
    state: State

    def __str__(self) -> str:
        """Says it in one line."""
        if self.entry is None:
            return f"{self.state}: an entry that cannot be read"
        return (
            f"{self.state}: {self.entry.role}, pid {self.entry.pid}, durability "
            f"{self.entry.durability}, since {self.entry.start_time}"
        )


class HeldEntry:
    """The entry of this process."""

    def __init__(self, path: pathlib.Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def remove(self) -> None:
        """Removes the entry: this process no longer has the store open."""
        # In this order, so that nobody finds it unlocked and takes us for killed.
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def boot() -> str:
    """Identifies the boot of the machine; containers share it."""
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def pid_namespace() -> str:
    """Identifies the PID namespace of this process."""
    return str(pathlib.Path("/proc/self/ns/pid").readlink())


@contextlib.contextmanager
def guard(directory: pathlib.Path) -> Iterator[None]:
    """Holds the guard of a store; waits for it while another process opens the store."""
    descriptor = os.open(directory / GUARD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def find(directory: pathlib.Path, boot_id: str) -> list[Found]:
    """Reads the entries of a store, whose guard the caller holds."""
    found = []
    for path in sorted((directory / ENTRIES).glob("*")):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # Its process has removed it just now.
        try:
            is_live = not _lock(descriptor)
            if os.fstat(descriptor).st_nlink:
                entry = _decode(os.pread(descriptor, 4096, 0))
                found.append(Found(path, entry, _state(entry, boot_id, is_live=is_live)))
        finally:
            os.close(descriptor)
    return found


def refuse_other_namespaces(directory: pathlib.Path, found: list[Found]) -> None:
    """Raises OtherPidNamespaceError where a live process is in another PID namespace."""
    ours = pid_namespace()
    for _, entry, state in found:
        if state == "live" and (entry is None or entry.pid_namespace != ours):
            raise OtherPidNamespaceError(
                f"{directory}: a {entry.role if entry else 'process'} in another PID namespace has "
                "it open, and LMDB's lock does not reach across; run both in one "
                "(docker run --pid=container:NAME, or shareProcessNamespace: true), or run this "
                "one inside the other's container."
            )


def add(directory: pathlib.Path, entry: Entry, dead: list[Found]) -> HeldEntry:
    """Adds the entry of this process, and has it on the disk on return.

    The caller holds the guard. The first of the dead entries is written over, so that
    a killed server can start again when the disk is full.

    Raises:
      OSError: it cannot be written.
    """
    folder = directory / ENTRIES
    folder.mkdir(mode=0o700, exist_ok=True)
    path = dead[0].path if dead else folder / f"{entry.pid}-{uuid.uuid4().hex[:8]}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        encoded = json.dumps(dataclasses.asdict(entry)).encode() + b"\n"
        os.pwrite(descriptor, encoded, 0)
        os.ftruncate(descriptor, len(encoded))
        os.fsync(descriptor)
        for parent in (folder, directory):
            sync_directory(parent)
    except OSError:
        if not dead:
            path.unlink()
        os.close(descriptor)
        raise
    return HeldEntry(path, descriptor)


def remove(dead: Iterable[Found]) -> None:
    """Removes entries of processes that are gone; the caller holds the guard."""
    for found in dead:
        found.path.unlink(missing_ok=True)


def sync_directory(directory: pathlib.Path) -> None:
    """Makes the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _decode(encoded: bytes) -> Entry | None:
    # A power cut can leave any bytes here; what they were does not matter.
    try:
        return Entry(**json.loads(encoded))
    except (ValueError, TypeError):
        return None


def _state(entry: Entry | None, boot_id: str, *, is_live: bool) -> State:
    if is_live:
        return "live"
    return "killed" if entry is not None and entry.boot_id == boot_id else "unclean"

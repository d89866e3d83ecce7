"""A disk that records what is written and synced, and the images that a power cut leaves of it."""

from __future__ import annotations

import os
import pathlib
import random
import threading
import time
from typing import Any, NamedTuple

import apsw

from tickcell.server.store.disk import Disk

_SECTOR_BYTES = 512


class Write(NamedTuple):
    """Bytes written to a file at an offset; None for a new size of the file."""

    name: str
    offset: int
    content: bytes | None


class Sync(NamedTuple):
    """A sync that has returned: it covers what came before event `begin`."""

    name: str
    begin: int
    thread: int


class Mark(NamedTuple):
    """What the test notes: a commit that was made or acknowledged, and when."""

    what: str
    number: int
    at_s: float


Event = Write | Sync | Mark


class Recording:
    """What happens on the disk, in order, from `begin` on.

    Attributes:
      refuses_writes: whether the disk fails at each write.
      refuses_syncs: whether it fails at each sync of SQLite's own.
    """

    def __init__(self) -> None:
        self.refuses_writes = self.refuses_syncs = False
        self.events: list[Event] = []
        self._is_on = False
        self.before: dict[str, bytes] = {}
        self._vfs = _Vfs(self, f"recorded-{id(self)}")
        self.disk = Disk(self._vfs.name, self._sync)

    def begin(self, directory: pathlib.Path) -> None:
        """Begins with the files as they are, which are taken to be on the disk."""
        for name in ("store.db", "store.db-wal"):
            self.before[name] = _read_elsewhere(directory / name)
        self.events.clear()
        self._is_on = True

    def end(self) -> None:
        """Records no more."""
        self._is_on = False

    def note(self, event: Event) -> None:
        """Records what happens."""
        if self._is_on:
            self.events.append(event)

    def mark(self, what: str, number: int) -> None:
        """Notes what the test has done."""
        self.note(Mark(what, number, time.monotonic()))

    def close(self) -> None:
        """Takes the VFS away again."""
        self._vfs.unregister()

    def image(self, cut: int, chance: random.Random) -> dict[str, bytes]:
        """Returns the files after a power cut at event `cut`.

        What was synced is there; of the rest each write is kept, dropped, or torn.
        """
        events = self.events[:cut]
        synced = dict.fromkeys(self.before, 0)
        for event in events:
            if isinstance(event, Sync):
                synced[event.name] = max(synced[event.name], event.begin)
        # Some cuts keep nearly all, some nearly nothing.
        kept_share = chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        files = {name: bytearray(content) for name, content in self.before.items()}
        for index, event in enumerate(events):
            if isinstance(event, Write):
                if index < synced[event.name] or chance.random() < kept_share:
                    _apply(files[event.name], event)
                elif chance.random() < 0.3:
                    _tear(files[event.name], event, chance)
        return {name: bytes(content) for name, content in files.items()}

    def _sync(self, descriptor: int) -> None:
        name = pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        begin = len(self.events)
        os.fdatasync(descriptor)
        self.note(Sync(name, begin, threading.get_ident()))


class _Vfs(apsw.VFS):
    def __init__(self, recording: Recording, name: str) -> None:
        self.name = name
        self._recording = recording
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name.
        return _File(self._recording, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, recording: Recording, name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = pathlib.Path(path or "").name
        self._recording = recording
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name.
        # Before it: a sync that begins later covers it for sure.
        if self._recording.refuses_writes:
            raise apsw.exception_for(apsw.SQLITE_IOERR_WRITE)
        self._recording.note(Write(self._name, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802 - apsw's name.
        self._recording.note(Write(self._name, size, None))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name.
        if self._recording.refuses_syncs:
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        begin = len(self._recording.events)
        super().xSync(flags)
        self._recording.note(Sync(self._name, begin, threading.get_ident()))


def _read_elsewhere(path: pathlib.Path) -> bytes:
    """Reads a file of SQLite's in another process: here, closing it would drop our locks."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with open(writing, "wb") as pipe:
            pipe.write(path.read_bytes())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    return content


def _apply(file: bytearray, write: Write) -> None:
    if write.content is None:
        del file[write.offset :]
        file.extend(bytes(write.offset - len(file)))
    else:
        file.extend(bytes(max(0, write.offset - len(file))))
        file[write.offset : write.offset + len(write.content)] = write.content


def _tear(file: bytearray, write: Write, chance: random.Random) -> None:
    """Applies some of a write's sectors."""
    if write.content is None:
        return
    for begin in range(0, len(write.content), _SECTOR_BYTES):
        if chance.random() < 0.5:
            sector = write.content[begin : begin + _SECTOR_BYTES]
            _apply(file, Write(write.name, write.offset + begin, sector))

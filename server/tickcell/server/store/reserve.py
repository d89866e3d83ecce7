"""Room on the disk that is kept for sessions that exist.

A file holds it while there is enough. When the disk runs full it is given up: what
exists steps on and can be deleted, while what is new is refused until there is room
again and the reserve is back. Where even that room did not do, the file says so by its
size, which takes no room, to all servers of the store.
"""

from __future__ import annotations

import os
import pathlib

from tickcell.server.store.directory import RESERVE
from tickcell.server.store.errors import means_no_room

_BYTES = 16 << 20

# The size of the file where a step found no room.
_USED_UP = 1


class Reserve:
    """The reserve of a store; its servers share it.

    Attributes:
      whole_bytes: what it takes.
      is_held: whether the room is there, as of the last look.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._path = directory / RESERVE
        disk = os.statvfs(directory)
        # On a tiny disk, not all of it.
        self.whole_bytes = min(_BYTES, disk.f_blocks * disk.f_frsize // 8)
        # Below this a burst of commits could fill the disk before anybody looks again.
        self._least_free_bytes = self.whole_bytes // 4
        self.is_held = True

    def tend(self) -> None:
        """Gives the reserve up where the disk runs full, and takes it where there is room."""
        self.is_held = self._held_bytes() >= self.whole_bytes
        disk = os.statvfs(self._path.parent)
        free_bytes = disk.f_bavail * disk.f_frsize
        if self.is_held and free_bytes < self._least_free_bytes:
            self.give_up()
        elif not self.is_held and free_bytes >= self.whole_bytes + self._least_free_bytes:
            self._take()

    def give_up(self) -> None:
        """Leaves the room to what must go on."""
        self.is_held = False
        if self._held_bytes() > _USED_UP:
            os.truncate(self._path, 0)

    def note_used_up(self) -> None:
        """Notes, until the reserve is taken again, that what it left was not enough."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(descriptor, _USED_UP)
            finally:
                os.close(descriptor)
        except OSError as error:
            # Where even that takes room, the clock's own commits find none either.
            if not means_no_room(error):
                raise

    def is_used_up(self) -> bool:
        """Says whether a server of the store has noted that."""
        return self._held_bytes() == _USED_UP

    def _take(self) -> None:
        size_before = self._held_bytes()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.whole_bytes)
            self.is_held = True
        except OSError as error:
            os.ftruncate(descriptor, size_before)
            if not means_no_room(error):
                raise
        finally:
            os.close(descriptor)

    def _held_bytes(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

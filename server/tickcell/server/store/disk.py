"""What the store asks of the disk besides reading and writing: one seam for tests."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple


class Disk(NamedTuple):
    """How a store reaches its files.

    Attributes:
      vfs: the name of SQLite's VFS; None for its own.
      sync: puts what was written through a descriptor on the disk.
    """

    vfs: str | None = None
    sync: Callable[[int], None] = os.fdatasync


def descriptor_of(path: pathlib.Path) -> int:
    """Returns a descriptor by which SQLite has a file open in this process.

    It is SQLite's to close. We never open its files ourselves: closing any descriptor
    of a file drops all locks that the process has on it, SQLite's too.

    Args:
      path: absolute, without symbolic links.

    Raises:
      FileNotFoundError: the file is not open, as when it was removed or replaced.
    """
    for descriptor in os.listdir("/proc/self/fd"):
        # The listing's own is gone by now.
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{descriptor}") == str(path):
                return int(descriptor)
    raise FileNotFoundError(f"{path}: is not open.")

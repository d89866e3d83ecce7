"""A directory is put in its place whole, or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# From linux/fcntl.h and linux/fs.h.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def placed(place: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a new directory to be filled, which then takes a place, also one that is taken.

    However it ends, a kill included, the place holds all of what it held or all of the
    new. What a kill leaves beside it is removed the next time.

    Raises:
      OSError: the file system cannot exchange two directories, or has no room.
    """
    place = pathlib.Path(os.path.realpath(place))
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        _sync(beside)
        if place.exists():
            _exchange(beside, place)
        else:
            beside.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _sync(directory: pathlib.Path) -> None:
    """Brings the files to the disk before their directory takes its place."""
    for path in [*directory.iterdir(), directory]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exchange(one: pathlib.Path, other: pathlib.Path) -> None:
    """Exchanges two directories at one moment, which Python's os cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )
    if failed:
        number = ctypes.get_errno()
        reason = f"cannot be exchanged for another ({os.strerror(number)}); name a new directory"
        raise OSError(number, reason, str(other))

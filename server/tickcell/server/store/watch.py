"""Notices that the files of an open store were removed, replaced or emptied.

By stat alone: see `disk.descriptor_of` for why nothing is opened.
"""

from __future__ import annotations

import pathlib

from tickcell.server.store.directory import DATABASE, INDEX, LOG, MARKER


class Watch:
    """The files as they were when the store was opened."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self._files = {name: self._file(name) for name in (DATABASE, LOG, INDEX)}

    def complaint(self) -> str | None:
        """Returns what has become of them, if anything."""
        if not (self._directory / MARKER).exists():
            return f"{MARKER} was removed under the server"
        for name, expected in self._files.items():
            try:
                found = self._file(name)
            except FileNotFoundError:
                return f"{name} was removed under the server"
            if found != expected:
                return f"{name} was replaced under the server"
        if not (self._directory / DATABASE).stat().st_size:
            return f"{DATABASE} was emptied under the server"
        return None

    def _file(self, name: str) -> tuple[int, int]:
        found = (self._directory / name).stat()
        return found.st_dev, found.st_ino

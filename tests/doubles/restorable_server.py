"""A server whose store can be put back to how it was at a moment, as an operator does it."""

from __future__ import annotations

import pathlib
import subprocess
import sys

from tickcell.cli.server_process import ServerProcess


class RestorableServer(ServerProcess):
    """A server, the backup of its store, and the commands for both."""

    def __init__(self, directory: pathlib.Path) -> None:
        super().__init__(directory)
        self._backup = directory / "backup.db"

    def back_up(self) -> None:
        """Makes a backup, also while it serves."""
        _store("backup", "--store", self.store, self._backup)

    def put_back(self) -> None:
        """Puts the backup in the store's place, while the server is away."""
        self.kill()
        _store("restore", "--store", self.store, self._backup)
        self.restart()


def _store(*arguments: object) -> None:
    command = [sys.executable, "-m", "tickcell.cli", "store", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr

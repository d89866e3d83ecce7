"""One replica: `tickcell serve` on the store that all replicas share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.cluster import answers, process


class Replica(process.Process):
    """A running server of tickcell.

    Attributes:
      address: where it serves.
      metrics: where it shows its metrics and answers probes.
    """

    def __init__(
        self, directory: Path, name: str, store: str, arguments: Sequence[str] = ()
    ) -> None:
        """Prepares it.

        Args:
          directory: for its log.
          name: what it is called in messages.
          store: a directory, or the URL of PostgreSQL.
          arguments: further ones of `tickcell serve`.
        """
        directory.mkdir()
        self.address = f"127.0.0.1:{process.free_port()}"
        self.metrics = f"127.0.0.1:{process.free_port()}"
        command = [
            *(sys.executable, "-m", "tickcell.cli", "serve", "--store", store),
            *("--listen", self.address, "--metrics", self.metrics, *arguments),
        ]
        super().__init__(name, command, directory / "log")

    def run(self) -> None:
        """Starts it, and waits until it serves.

        Raises:
          StartError: it does not start.
        """
        self.start(lambda: answers.is_ok(self.metrics, "/readyz"))

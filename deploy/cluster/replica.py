"""One replica: `tickcell serve` on the store that all replicas share."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.cluster import answers, process


class Replica(process.Process):
    """A running server of tickcell.

    Attributes:
      address: where it serves.
      metrics: where it shows its metrics and answers probes.
      up_since_s: when it was last found to serve, by the monotonic clock; infinite before.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepares it.

        Args:
          directory: for its log.
          name: what it is called in messages.
          arguments: of `tickcell serve`: the store, and what else it needs.
          environment: of it, beside ours.
        """
        directory.mkdir()
        self.address = f"127.0.0.1:{process.free_port()}"
        self.metrics = f"127.0.0.1:{process.free_port()}"
        command = [
            *(sys.executable, "-m", "tickcell.cli", "serve"),
            *("--listen", self.address, "--metrics", self.metrics, *arguments),
        ]
        super().__init__(name, command, directory / "log", environment=environment)
        self.up_since_s = math.inf

    def run(self) -> None:
        """Starts it, and waits until it serves.

        Raises:
          StartError: it does not start.
        """
        self.up_since_s = math.inf
        self.start(lambda: answers.is_ok(self.metrics, "/readyz"))
        self.up_since_s = time.monotonic()

    @property
    def is_up(self) -> bool:
        """Whether it was found to serve, and runs."""
        return self.up_since_s < math.inf and self.is_running

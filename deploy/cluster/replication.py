"""PostgreSQL as a primary and two standbys, of which one has each commit before it is answered.

What an operator's tool does otherwise (Patroni, a cloud's own) is done by hand here: the old
primary is dead before a standby is promoted, and of the standbys that one is promoted which
has received the most. Only if *all* standbys are asked is an acknowledged commit among it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.cluster import postgres, process
from deploy.cluster.postgres import Postgres

if TYPE_CHECKING:
    from typing import Self

_POLL_S = 0.02
_COUNT = 3


class Replication:
    """Three servers.

    Attributes:
      servers: all of them.
      primary: the one that takes commits, or that did so last.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        """Prepares the servers.

        Args:
          directory: for their files; see `postgres.directory`.
          settings: of the configuration of each.

        Raises:
          MissingError: PostgreSQL is not installed.
        """
        names = [f"postgres_{number}" for number in range(1, _COUNT + 1)]
        self.servers = [Postgres(directory / name, name=name, settings=settings) for name in names]
        self.primary = self.servers[0]
        self._waited_for = f"'ANY 1 ({', '.join(names)})'"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where tickcell's store is, whichever server is the primary."""
        return postgres.url(self.servers)

    @property
    def standbys(self) -> list[Postgres]:
        """The servers that run beside the primary."""
        return [each for each in self.servers if each is not self.primary and each.is_running]

    def start(self) -> None:
        """Makes and starts all of them.

        Raises:
          StartError: one does not start.
        """
        self.primary.initialize()
        for server in self.servers[1:]:
            server.copy(self.primary)
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.settings["synchronous_standby_names"] = self._waited_for
            server.reload()
        self.wait_until_synchronous()

    def join(self, server: Postgres) -> None:
        """Makes a server a standby with a new copy of the primary, and starts it.

        Raises:
          StartError: it cannot be made, or does not start.
        """
        server.copy(self.primary)
        server.start()

    def fail_over(self) -> Postgres:
        """Promotes the standby that has received the most; the primary is dead.

        Returns:
          The new primary. The other standby follows it.

        Raises:
          StartError: a standby does not answer, so nobody knows whether it has the most.
        """
        if self.primary.is_running:
            raise ValueError(f"{self.primary.name} runs: two primaries would take commits.")
        standbys = self.standbys
        received = {server.name: _received(server) for server in standbys}
        self.primary = max(standbys, key=lambda server: received[server.name])
        self.primary.promote()
        for server in standbys:
            if server is not self.primary:
                server.follow(self.primary)
        return self.primary

    def wait_until_synchronous(self) -> None:
        """Waits until a commit of the primary is on each of its standbys.

        Raises:
          StartError: it does not come to that.
        """
        until = time.monotonic() + process.PATIENCE_S
        want = str(len(self.standbys))
        waited_for = (
            "SELECT count(*) FROM pg_stat_replication "
            "WHERE state = 'streaming' AND sync_state = 'quorum'"
        )
        while self.primary.query(waited_for) != want:
            if time.monotonic() > until:
                raise process.StartError(f"{self.primary.name}: its standbys do not follow.")
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Ends all of them for good."""
        # The primary waits for standbys that follow it.
        for server in [self.primary, *(each for each in self.servers if each is not self.primary)]:
            server.close()


def _received(standby: Postgres) -> int:
    """Returns up to which byte of the log it has all."""
    position = "greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"
    return int(standby.query(f"SELECT {position} - '0/0'::pg_lsn"))

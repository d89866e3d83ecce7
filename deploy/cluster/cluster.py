"""All of it together: started one after the other, ended in the opposite order."""

from __future__ import annotations

import concurrent.futures
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.cluster import postgres, process, programs
from deploy.cluster.envoy import Envoy
from deploy.cluster.prometheus import Prometheus
from deploy.cluster.replica import Replica
from deploy.cluster.replication import Replication

if TYPE_CHECKING:
    from typing import Self

REPLICA_COUNT = 3


class Cluster:
    """PostgreSQL with two standbys, replicas, Envoy and, if asked for, Prometheus.

    Attributes:
      directory: of all their files; it is gone with the cluster.
      database: the store of the replicas.
      replicas: the servers.
      envoy: before the replicas.
      prometheus: reads what they count; None where it was not asked for.
    """

    directory: Path
    database: Replication
    replicas: list[Replica]
    envoy: Envoy
    prometheus: Prometheus | None

    def __init__(
        self,
        *,
        with_prometheus: bool = False,
        store_url: Callable[[Replication], str] = lambda database: database.url,
        arguments: Sequence[str] = (),
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        """Prepares a cluster; entering it starts it.

        Args:
          with_prometheus: whether to run Prometheus, too.
          store_url: where the replicas find the store, such as behind a proxy of a test.
          arguments: further ones of `tickcell serve`, for each replica.
          say: is told what is being done.
        """
        self._with_prometheus = with_prometheus
        self._store_url = store_url
        self._arguments = arguments
        self._say = say
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ending:
            self._start(ending)
            self._ending = ending.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.close()

    @property
    def addresses(self) -> list[str]:
        """Where the replicas serve."""
        return [replica.address for replica in self.replicas]

    def _start(self, ending: contextlib.ExitStack) -> None:
        self.directory = ending.enter_context(postgres.directory())
        self._say("starting PostgreSQL: a primary and two standbys")
        self.database = ending.enter_context(Replication(self.directory))
        store = self._store_url(self.database)
        process.run([*(sys.executable, "-m", "tickcell.cli", "store", "init", "--store", store)])
        self._say(f"starting {REPLICA_COUNT} replicas")
        self.replicas = [
            Replica(
                self.directory / f"replica-{number}", f"replica {number}", store, self._arguments
            )
            for number in range(1, REPLICA_COUNT + 1)
        ]
        for replica in self.replicas:
            ending.callback(_end, replica)
        with concurrent.futures.ThreadPoolExecutor(REPLICA_COUNT) as threads:
            list(threads.map(Replica.run, self.replicas))
        self._say("starting Envoy")
        self.envoy = Envoy(self.directory / "envoy", self.addresses)
        ending.callback(_end, self.envoy)
        self.envoy.run()
        self.prometheus = None
        if self._with_prometheus:
            self._say("starting Prometheus")
            watched = [replica.metrics for replica in self.replicas]
            self.prometheus = Prometheus(self.directory / "prometheus", watched, self.envoy.admin)
            ending.callback(_end, self.prometheus)
            self.prometheus.run()


def _end(program: process.Process) -> None:
    """Stops a program, or what is left of it."""
    if program.is_running:
        program.resume()
        program.stop()


__all__ = ["REPLICA_COUNT", "Cluster", "programs"]

"""All of it together: started one after the other, ended in the opposite order."""

from __future__ import annotations

import concurrent.futures
import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.cluster import postgres, process
from deploy.cluster.envoy import Envoy
from deploy.cluster.prometheus import Prometheus
from deploy.cluster.replica import Replica
from deploy.cluster.replication import Replication

if TYPE_CHECKING:
    from typing import Self

REPLICA_COUNT = 3


def on_sqlite(directory: Path, _: contextlib.ExitStack) -> list[str]:
    """A store of this machine, which nobody needs to start; see `Cluster`."""
    return ["--store", str(directory / "store")]


class OnPostgres:
    """A store in PostgreSQL with two standbys; see `Cluster`.

    Attributes:
      database: the servers, once they run.
    """

    database: Replication

    def __init__(self, way: Callable[[Replication], str] = lambda database: database.url) -> None:
        """Prepares it.

        Args:
          way: the URL by which the replicas find it, such as behind a proxy of a test.
        """
        self._way = way

    def __call__(self, directory: Path, ending: contextlib.ExitStack) -> list[str]:
        """Starts the servers, and makes tickcell's table; returns arguments for a replica."""
        self.database = ending.enter_context(Replication(directory))
        url, durability = self._way(self.database), ["--durability", "replicated"]
        process.run([sys.executable, "-m", "tickcell.cli", "store", "init", url, *durability])
        return ["--store", url, *durability]


class Cluster:
    """A store, replicas on it, Envoy before them and, if asked for, Prometheus.

    Attributes:
      directory: of all their files; it is gone with the cluster.
      replicas: the servers.
      envoy: before the replicas.
      prometheus: reads what they count; None where it was not asked for.
    """

    directory: Path
    replicas: list[Replica]
    envoy: Envoy
    prometheus: Prometheus | None = None

    def __init__(
        self,
        store: Callable[[Path, contextlib.ExitStack], list[str]],
        *,
        with_prometheus: bool = False,
        environment: Mapping[str, str] | None = None,
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Prepares a cluster; entering it starts it.

        Args:
          store: starts the store in a directory, to be ended with the stack, and returns the
            arguments that a replica needs for it.
          with_prometheus: whether to run Prometheus, too.
          environment: of the replicas, beside ours.
          say: is told what is being done.
        """
        self._store = store
        self._with_prometheus = with_prometheus
        self._environment = environment
        self._say = say
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ending:
            self._start(ending)
            self._ending = ending.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    @property
    def addresses(self) -> list[str]:
        """Where the replicas serve."""
        return [replica.address for replica in self.replicas]

    def _start(self, ending: contextlib.ExitStack) -> None:
        self.directory = ending.enter_context(postgres.directory())
        self._say("starting the store")
        arguments = self._store(self.directory, ending)
        self._say(f"starting {REPLICA_COUNT} replicas")
        self.replicas = [
            Replica(
                self.directory / f"replica-{number}",
                f"replica {number}",
                arguments,
                self._environment,
            )
            for number in range(1, REPLICA_COUNT + 1)
        ]
        for replica in self.replicas:
            ending.callback(replica.end)
        with concurrent.futures.ThreadPoolExecutor(REPLICA_COUNT) as threads:
            list(threads.map(Replica.run, self.replicas))
        self._say("starting Envoy")
        self.envoy = Envoy(self.directory / "envoy", self.addresses)
        ending.callback(self.envoy.end)
        self.envoy.run()
        if self._with_prometheus:
            self._say("starting Prometheus")
            watched = [replica.metrics for replica in self.replicas]
            self.prometheus = Prometheus(self.directory / "prometheus", watched, self.envoy.admin)
            ending.callback(self.prometheus.end)
            self.prometheus.run()

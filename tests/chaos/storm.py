"""What is done to a cluster while cars drive by it: one blow after the other, each mended."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import libfaketime
from deploy.cluster.cluster import Cluster, OnPostgres, on_sqlite
from deploy.cluster.replication import Replication

from doubles.slow_link import SlowLink
from tickcell.client import Session

# Longer than Envoy takes to find out that a server stands still.
_STANDSTILL_S = 3.0
# A slow link to a client, and one to the database: each step waits for it.
_SLOW_ROUND_TRIP_S = 0.3
_SLOW_COMMIT_S = 0.1
# Above what a client waits for an answer, and a server for a commit.
_SILENCE_S = 6.0
_WRONG_CLOCKS = ("-3d", "+2d", "@1970-01-01 00:00:10")
# In which each server looks at what is due more than once.
_JUMP_S = 1.5


class Storm:
    """A cluster whose links can be slow, cut or silent, too.

    Attributes:
      cluster: what is behind them.
      database: its PostgreSQL; None where the store is SQLite.
      front: the link from the clients to Envoy.
      backs: those from the replicas to each PostgreSQL.
      done: the blows so far, in words.
    """

    def __init__(
        self,
        cluster: Cluster,
        database: Replication | None,
        backs: list[SlowLink],
        clock: Path,
    ) -> None:
        self.cluster = cluster
        self.database = database
        self.front = SlowLink(cluster.envoy.address)
        self.backs = backs
        self.done: list[str] = []
        self._clock = clock
        self._wrong_clocks = itertools.cycle(_WRONG_CLOCKS)

    @property
    def blows(self) -> list[Callable[[], None]]:
        """All that can be done again and again, on this store."""
        on_every_store = [
            self.kill_a_replica,
            self.stop_a_replica,
            self.upgrade_the_replicas,
            self.restart_envoy,
            self.cut_the_clients,
            self.slow_the_clients,
            self.silence_the_clients,
        ]
        if self.database is None:
            return on_every_store
        return [
            *on_every_store,
            self.kill_the_primary,
            self.stop_the_standbys_and_kill_the_primary,
            self.cut_the_database,
            self.slow_the_database,
            self.silence_the_database,
        ]

    def kill_a_replica(self) -> None:
        replica = random.choice(self.cluster.replicas)
        self._note(f"kill -9 {replica.name}")
        replica.kill()
        replica.run()

    def stop_a_replica(self) -> None:
        replica = random.choice(self.cluster.replicas)
        self._note(f"{replica.name} stands still")
        replica.pause()
        time.sleep(_STANDSTILL_S)
        replica.resume()

    def upgrade_the_replicas(self) -> None:
        """Stops and starts one after the other, as an upgrade does."""
        for replica in self.cluster.replicas:
            self._note(f"SIGTERM {replica.name}")
            assert replica.stop() == 0, replica.log.read_text()
            replica.run()

    def restart_envoy(self) -> None:
        self._note("kill -9 Envoy")
        self.cluster.envoy.kill()
        self.cluster.envoy.run()

    def cut_the_clients(self) -> None:
        self._note("the clients' connections are cut")
        self.front.cut()

    def slow_the_clients(self) -> None:
        self._note("the clients' link is slow")
        with _changed(self.front, _SLOW_ROUND_TRIP_S):
            time.sleep(_STANDSTILL_S)

    def silence_the_clients(self) -> None:
        self._note("the clients' link is silent")
        self.front.die()
        time.sleep(_SILENCE_S)
        self.front.revive()

    def jump_the_clocks(self) -> None:
        clock = next(self._wrong_clocks)
        self._note(f"the replicas' wall clocks jump to {clock}")
        self._clock.write_text(clock)
        time.sleep(_JUMP_S)
        with Session.create(self.front.address) as session:
            off = session.info.create_time - datetime.datetime.now(datetime.UTC)
        assert abs(off) > datetime.timedelta(days=1)

    def cut_the_database(self) -> None:
        self._note("the connections to PostgreSQL are cut")
        for back in self.backs:
            back.cut()

    def slow_the_database(self) -> None:
        self._note("the link to PostgreSQL is slow")
        with contextlib.ExitStack() as stack:
            for back in self.backs:
                stack.enter_context(_changed(back, _SLOW_COMMIT_S))
            time.sleep(_STANDSTILL_S)

    def silence_the_database(self) -> None:
        self._note("the link to PostgreSQL is silent")
        for back in self.backs:
            back.die()
        time.sleep(_SILENCE_S)
        for back in self.backs:
            back.revive()

    def kill_the_primary(self) -> None:
        database = self.the_database
        killed = database.primary
        self._note(f"kill -9 {killed.name}, the primary")
        killed.kill()
        self._note(f"{database.fail_over().name} is promoted")
        database.join(killed)
        database.wait_until_synchronous()

    def stop_the_standbys_and_kill_the_primary(self) -> None:
        """Lets commits hang that their servers give up, and then loses the primary."""
        database = self.the_database
        killed = database.primary
        self._note("both standbys stand still")
        for standby in database.standbys:
            standby.pause()
        time.sleep(_SILENCE_S)
        self._note(f"kill -9 {killed.name}, the primary, whose commits hang")
        killed.kill()
        for standby in database.standbys:
            standby.resume()
        self._note(f"{database.fail_over().name} is promoted")
        database.join(killed)
        database.wait_until_synchronous()

    @property
    def the_database(self) -> Replication:
        assert self.database is not None
        return self.database

    def _note(self, blow: str) -> None:
        self.done.append(blow)
        print(f"  {time.strftime('%X')} {blow}")


@contextlib.contextmanager
def on(store: str, *, with_wrong_clocks: bool = False) -> Iterator[Storm]:
    """Runs a cluster on a store.

    Args:
      store: "sqlite" or "postgresql".
      with_wrong_clocks: whether the wall clocks of the replicas can be made to jump.
    """
    with contextlib.ExitStack() as stack:
        backs: list[SlowLink] = []

        def by_links(database: Replication) -> str:
            url = database.url
            for server in database.servers:
                back = SlowLink(server.address)
                stack.callback(back.close)
                backs.append(back)
                url = url.replace(server.address, back.address)
            return url

        postgres = OnPostgres(by_links) if store == "postgresql" else None
        clock = Path(stack.enter_context(tempfile.NamedTemporaryFile()).name)
        environment = _clock_of(clock) if with_wrong_clocks else None
        cluster = stack.enter_context(Cluster(postgres or on_sqlite, environment=environment))
        storm = Storm(cluster, postgres.database if postgres else None, backs, clock)
        stack.callback(storm.front.close)
        yield storm


def _clock_of(file: Path) -> dict[str, str]:
    """Returns an environment in which the wall clock is what a file says, at any moment."""
    file.write_text("+0")
    _, preload = libfaketime.get_reload_information()
    return {
        **preload,
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


@contextlib.contextmanager
def _changed(link: SlowLink, round_trip_s: float) -> Iterator[None]:
    link.round_trip_s = round_trip_s
    try:
        yield
    finally:
        link.round_trip_s = 0.0

"""The PostgreSQL of a test run, in which each test has a new store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from deploy.cluster import postgres, programs
from deploy.cluster.replication import Replication

from doubles.blocking_store import BlockingStore
from tickcell.server.store.postgres import administration
from tickcell.server.store.postgres.postgres_store import PostgresStore

if TYPE_CHECKING:
    from tickcell.server.store.postgres.levels import Level
    from tickcell.server.store.store_clock import Monotonic


class Databases:
    """One PostgreSQL server.

    Attributes:
      server: it; None where PostgreSQL is not installed.
      missing: what is not installed, as a sentence.
    """

    def __init__(self, server: postgres.Postgres | None, missing: str) -> None:
        self.server = server
        self.missing = missing

    def new(self, durability: Level = "power-loss") -> str:
        """Returns the address of a store without a session; the one before is gone.

        Where there is no PostgreSQL, the test is skipped; so it is by the others.
        """
        self.require()
        assert self.server is not None
        self.server.query("SET client_min_messages = error; DROP SCHEMA IF EXISTS tickcell CASCADE")
        administration.init(self.server.url, durability)
        return self.server.url

    @contextlib.contextmanager
    def alone(self, durability: Level = "power-loss") -> Iterator[postgres.Postgres]:
        """Runs a server of the test's own, with a store; it may be killed."""
        self.require()
        with postgres.temporary() as server:
            administration.init(server.url, durability)
            yield server

    @contextlib.contextmanager
    def replicated(self) -> Iterator[Replication]:
        """Runs a primary with two standbys, of which each may be killed, and a store on it."""
        self.require()
        with postgres.directory() as path, Replication(path) as servers:
            administration.init(servers.url, "replicated")
            yield servers

    def require(self) -> None:
        """Skips the test where there is no PostgreSQL."""
        if self.server is None:
            pytest.skip(self.missing)

    def store(self, monotonic_ns: Monotonic | None = None) -> BlockingStore:
        """Opens a store without a session; the test closes it."""
        address = self.new()
        if monotonic_ns is None:
            return BlockingStore(PostgresStore(address)).open()
        return BlockingStore(PostgresStore(address, monotonic_ns=monotonic_ns)).open()


@contextlib.contextmanager
def databases() -> Iterator[Databases]:
    """Runs PostgreSQL for a whole run of tests, if it is installed."""
    try:
        programs.postgresql()
    except programs.MissingError as error:
        yield Databases(None, str(error))
        return
    with postgres.temporary() as server:
        yield Databases(server, "")

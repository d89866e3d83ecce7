"""Clusters to hurt, and how much of it is done: by the environment, for `make chaos`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from deploy.cluster import programs

from chaos import storm
from chaos.storm import Storm


class Extent(NamedTuple):
    """How much the long proofs do.

    Attributes:
      sessions: that drive through a storm of everything.
      streams: that drive at 10 Hz while replicas are killed each second.
      seconds: for how long.
    """

    sessions: int
    streams: int
    seconds: float


@pytest.fixture(scope="session")
def extent() -> Extent:
    given = os.environ.get
    return Extent(
        int(given("CHAOS_SESSIONS", "200")),
        int(given("CHAOS_STREAMS", "100")),
        float(given("CHAOS_SECONDS", "60")),
    )


def _need(store: str) -> None:
    """Skips a test whose programs are not installed, and says which."""
    try:
        programs.envoy()
        if store == "postgresql":
            programs.postgresql()
    except programs.MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["sqlite", "postgresql"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Storm]:
    """Three replicas behind Envoy, on each store."""
    _need(request.param)
    with storm.on(request.param) as made:
        yield made


@pytest.fixture
def on_postgres() -> Iterator[Storm]:
    """Three replicas behind Envoy, on PostgreSQL with two standbys."""
    _need("postgresql")
    with storm.on("postgresql") as made:
        yield made


@pytest.fixture
def wrong_clocks() -> Iterator[Storm]:
    """Three replicas behind Envoy, on SQLite, whose wall clocks can jump."""
    _need("sqlite")
    with storm.on("sqlite", with_wrong_clocks=True) as made:
        yield made

"""How many of each part a number of sessions takes, and what batching does to a database.

    python -m bench.sizing
    python -m bench.sizing --hz 10 --frames 5

The table multiplies what `python -m bench.cluster` measured; the simulation plays replicas that
have one statement under way on each connection, while what arrives waits for the next one.
docs/scaling.md explains both.
"""

from __future__ import annotations

import heapq
import math
import random
from typing import NamedTuple

import click

# Of a tick with one frame, on the machine of docs/scaling.md: processor time in seconds, and
# bytes of PostgreSQL's log.
REPLICA_S, DATABASE_S, ENVOY_S = 400e-6, 130e-6, 95e-6
LOG_BYTES = 1350
# Of a further frame in the same message, estimated: the cell, its digest, and its bytes both ways.
FRAME_S = 10e-6
# A session's row: its record twice, since half of each page is left for its next version.
ROW_BYTES = 2 * 1300
# Of what there is, so that the rest is for failures and for the hour that is busier.
_USED = 0.5
# A database server, as clouds sell it: cores, and bytes of log a second.
_DATABASE_CORES, _LOG_BYTES_S = 16, 100e6

_SESSIONS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)

# Of one statement of n rows: what it waits for without using a core (the way, the disks of the
# primary and of a standby), and what a core of the database does, for it and for each row.
_WAIT_S, _STATEMENT_S, _ROW_S = 500e-6, 100e-6, 30e-6
_CONNECTIONS = 2
# Ticks a second, and replicas.
_PLAYED = ((1_000, 3), (10_000, 8), (50_000, 40), (100_000, 80), (200_000, 80), (400_000, 80))


class Size(NamedTuple):
    """What some sessions take.

    Attributes:
      messages_s: messages a second.
      replicas: servers of tickcell, of one core each.
      envoy_cores: cores of Envoy.
      databases: PostgreSQL primaries, each with its standbys: the shards.
      log_bytes_s: of the log of all of them together, a second.
      disk_bytes: of all sessions together.
    """

    messages_s: float
    replicas: int
    envoy_cores: int
    databases: int
    log_bytes_s: float
    disk_bytes: float


def size(sessions: int, hz: float, frames: int) -> Size:
    """Returns what sessions take that all drive at once.

    Args:
      sessions: how many.
      hz: frames a second of each.
      frames: in one message.
    """
    messages = sessions * hz / frames
    more_s = (frames - 1) * FRAME_S
    by_cores = messages * DATABASE_S / _DATABASE_CORES
    log_bytes = messages * LOG_BYTES
    return Size(
        messages,
        _of(messages * (REPLICA_S + more_s)),
        _of(messages * ENVOY_S),
        _of(max(by_cores, log_bytes / _LOG_BYTES_S)),
        log_bytes,
        sessions * ROW_BYTES,
    )


class Batching(NamedTuple):
    """What came of playing it.

    Attributes:
      rows: in a statement, on average.
      p50_s: how long a tick waits for its commit, at the median.
      p99_s: how long it waits at the 99th percentile.
    """

    rows: float
    p50_s: float
    p99_s: float


class _Database:
    """Statements of all replicas, played on the cores of one database."""

    def __init__(self, replicas: int) -> None:
        self.waits_s: list[float] = []
        self.rows: list[int] = []
        self._waiting: list[list[float]] = [[] for _ in range(replicas)]
        self._connections = [_CONNECTIONS] * replicas
        # When each core is free.
        self._cores = [0.0] * _DATABASE_CORES
        # When each statement that is under way is done, and whose it is.
        self._under_way: list[tuple[float, int]] = []

    def tick(self, now: float, replica: int) -> None:
        """Takes a tick that arrives; ticks arrive in order of time."""
        self.run(now)
        self._waiting[replica].append(now)
        self._send(now, replica)

    def run(self, until: float) -> None:
        """Answers what is done by then; each connection that is free takes what waits."""
        while self._under_way and self._under_way[0][0] <= until:
            done, replica = heapq.heappop(self._under_way)
            self._connections[replica] += 1
            self._send(done, replica)

    def _send(self, now: float, replica: int) -> None:
        ticks = self._waiting[replica]
        if not ticks or not self._connections[replica]:
            return
        self._waiting[replica] = []
        self._connections[replica] -= 1
        begun = max(now, self._cores[0])
        ended = begun + _STATEMENT_S + _ROW_S * len(ticks)
        heapq.heapreplace(self._cores, ended)
        done = ended + _WAIT_S
        heapq.heappush(self._under_way, (done, replica))
        self.rows.append(len(ticks))
        self.waits_s += [done - tick for tick in ticks]


def simulate(ticks_s: float, replicas: int, seconds: float = 1.0) -> Batching:
    """Plays what becomes of ticks that arrive at random.

    Args:
      ticks_s: that arrive each second, at all replicas together.
      replicas: each has two connections to the one database.
      seconds: how long it is played.
    """
    chance = random.Random(1)  # Each run the same.
    database = _Database(replicas)
    now = chance.expovariate(ticks_s)
    while now < seconds:
        database.tick(now, chance.randrange(replicas))
        now += chance.expovariate(ticks_s)
    committed = len(database.waits_s)
    waits = sorted(database.waits_s)
    return Batching(
        committed / len(database.rows),
        waits[committed // 2],
        waits[committed * 99 // 100],
    )


def _of(needed: float) -> int:
    return math.ceil(needed / _USED)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--hz", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True)
@click.option("--frames", type=click.IntRange(min=1), default=1, show_default=True)
def main(hz: float, frames: int) -> None:
    """Prints what sessions take that all drive at once, and what batching does."""
    click.echo(f"{hz:g} frames a second, {frames} in a message; {_USED:.0%} of each part in use\n")
    click.echo("  sessions  messages/s  replicas  Envoy cores  PostgreSQLs  log MB/s  disk GB")
    for sessions in _SESSIONS:
        row = size(sessions, hz, frames)
        click.echo(
            f"{sessions:10,} {row.messages_s:11,.0f} {row.replicas:9,} {row.envoy_cores:12,} "
            f"{row.databases:12,} {row.log_bytes_s / 1e6:9,.0f} {row.disk_bytes / 1e9:8,.1f}"
        )
    click.echo(f"\nplayed: one PostgreSQL of {_DATABASE_CORES} cores, two connections a replica")
    click.echo("  ticks/s  replicas  rows a statement  commit p50 ms    p99 ms")
    for ticks_s, replicas in _PLAYED:
        played = simulate(ticks_s, replicas)
        click.echo(
            f"{ticks_s:9,} {replicas:9} {played.rows:17.1f} {played.p50_s * 1e3:14.2f} "
            f"{played.p99_s * 1e3:9.2f}"
        )


if __name__ == "__main__":
    main()

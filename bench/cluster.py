"""What a tick costs each part of a cluster: processor time, and bytes of PostgreSQL's log.

    python -m bench.cluster --streams 32 --hz 20

Cars drive through Envoy by three replicas on PostgreSQL with two standbys, all on this machine.
docs/scaling.md sums up what that means for many machines.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
from deploy.cluster.cluster import Cluster, OnPostgres
from deploy.cluster.drives import Drives, Manner
from deploy.cluster.postgres import Postgres

from bench import machine

_WARM_UP_STEPS = 20
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Reading(NamedTuple):
    """Counters at one moment.

    Attributes:
      cpu_s: the processor time of each part so far, in seconds.
      log_bytes: written to the primary's log so far.
      commits: transactions of the primary so far.
      outputs: that the cars have got so far.
    """

    cpu_s: dict[str, float]
    log_bytes: int
    commits: int
    outputs: int


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--streams", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--hz", type=click.FloatRange(min=0.1), default=20.0, show_default=True)
@click.option("--window", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=1), default=10.0, show_default=True)
def main(streams: int, hz: float, window: int, seconds: float) -> None:
    """Measures what a tick costs the parts of a cluster."""
    click.echo(machine.describe())
    click.echo(f"load before: {machine.load()}\n")
    store = OnPostgres()
    with Cluster(store, say=click.echo) as cluster:
        drives = Drives(cluster.envoy.address, streams, Manner(hz=hz, window=window))
        with drives.driving():
            drives.wait(_WARM_UP_STEPS)
            primary = store.database.primary
            parts: dict[str, list[int]] = {
                "3 replicas": [replica.pid for replica in cluster.replicas],
                "PostgreSQL": [primary.pid],
                "2 standbys": [standby.pid for standby in store.database.standbys],
                "Envoy": [cluster.envoy.pid],
                "the clients": [os.getpid()],
            }
            before, began = _read(parts, primary, drives), time.monotonic()
            time.sleep(seconds)
            after, took = _read(parts, primary, drives), time.monotonic() - began
        click.echo(f"\n{drives.verdict()}\n")
    _show(before, after, took, click.echo)


def _show(before: Reading, after: Reading, took_s: float, say: Callable[[str], object]) -> None:
    ticks = after.outputs - before.outputs
    commits = after.commits - before.commits
    say(f"{ticks / took_s:,.0f} ticks/s")
    for part, cpu_s in after.cpu_s.items():
        say(f"{part:12} {(cpu_s - before.cpu_s[part]) / ticks * 1e6:6.0f} us a tick")
    say(f"{ticks / max(1, commits):.1f} ticks in a transaction")
    say(f"{(after.log_bytes - before.log_bytes) / ticks:,.0f} bytes of log a tick")


def _read(parts: dict[str, list[int]], primary: Postgres, drives: Drives) -> Reading:
    log_bytes, commits = primary.query(
        "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn, sum(xact_commit) FROM pg_stat_database"
    ).split("|")
    return Reading(
        {part: sum(map(_cpu_s, pids)) for part, pids in parts.items()},
        int(log_bytes),
        int(commits),
        sum(len(car.outputs) for car in drives.cars),
    )


def _cpu_s(pid: int) -> float:
    """Returns the processor time of a process and of those that it has started."""
    own = f"/proc/{pid}"
    found = 0
    for path in [Path(own), *_children(pid)]:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # User and system time, after the name, which ends with the last parenthesis.
            user, system = (path / "stat").read_text().rpartition(")")[2].split()[11:13]
            found += int(user) + int(system)
    return found / _TICKS_A_SECOND


def _children(pid: int) -> list[Path]:
    # Ours are parts of their own.
    if pid == os.getpid():
        return []
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [Path("/proc") / child for child in text.split()]


if __name__ == "__main__":
    main()

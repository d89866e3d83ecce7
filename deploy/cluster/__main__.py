"""The command: `make cluster` and `make cluster-demo`."""

from __future__ import annotations

import logging
import signal
import sys

import click
from deploy.cluster import demo, programs
from deploy.cluster.cluster import Cluster, OnPostgres
from deploy.cluster.process import StartError

_STOPPED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--demo", "is_demo", is_flag=True, help="Kill its parts under load, and compare.")
def main(is_demo: bool) -> None:
    """Runs a whole cluster on this machine until it is stopped.

    PostgreSQL with two standbys, three replicas, Envoy, Prometheus: all of it listens on this
    machine alone, and nothing of it is left behind.
    """
    missing = programs.missing()
    for sentence in missing:
        click.echo(f"cluster: {sentence}", err=True)
    if missing:
        sys.exit(1)
    for number in _SIGNALS:
        signal.signal(number, _stop)
    store = OnPostgres()
    try:
        with Cluster(store, with_prometheus=not is_demo, say=click.echo) as cluster:
            if is_demo:
                # What its viewer is told is said by the demonstration.
                logging.getLogger("tickcell.client").setLevel(logging.ERROR)
                sys.exit(0 if demo.run(cluster, store, click.echo) else 1)
            click.echo(_description(cluster, store))
            signal.pause()
    except StartError as error:
        click.echo(f"cluster: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_STOPPED if is_demo else 0)


def _stop(*_: object) -> None:
    # It ends once, whoever is impatient.
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    click.echo("ending")
    raise KeyboardInterrupt


def _description(cluster: Cluster, store: OnPostgres) -> str:
    assert cluster.prometheus is not None
    database = store.database
    lines = [
        "",
        "the cluster runs:",
        f"  Envoy        {cluster.envoy.address}, its counters at http://{cluster.envoy.admin}",
        *(
            f"  {replica.name}    {replica.address}, metrics at http://{replica.metrics}/metrics"
            for replica in cluster.replicas
        ),
        *(
            f"  {server.name}   {server.address}, "
            f"{'the primary' if server is database.primary else 'a standby'}"
            for server in database.servers
        ),
        f"  Prometheus   http://{cluster.prometheus.address}",
        f"  files, logs  {cluster.directory}",
        "",
        "drive a car by it, kill what you like, or look into it:",
        f"  tickcell agent --realtime --server {cluster.envoy.address}",
        f"  tickcell verify --server {cluster.envoy.address}",
        f"  psql {database.url}",
        "",
        "Ctrl-C ends it, and removes all of its files",
    ]
    return "\n".join(lines)


main()

"""What a tick costs on each kind of store, beside an echo: all serve at once, and take turns.

PostgreSQL runs on this machine, as a primary without standbys, so what a network adds is
not in it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import click
import numpy as np
from deploy.cluster import postgres, programs

from bench import caller, cpu, machine, pairs, serving, throughput
from tickcell.model import Bundle
from tickcell.server.store.postgres import administration
from tickcell.server.store.postgres.levels import Level

_STREAMS = 32
_ROUNDS = 6
_TICKS = 50
_LEVELS: tuple[Level, ...] = ("power-loss", "bounded-loss")

Servers = dict[str, serving.Serving]


@contextlib.contextmanager
def _servers() -> Iterator[Servers]:
    """Runs a server on a store of each kind."""
    with contextlib.ExitStack() as stack:
        found = {"SQLite, process-crash": stack.enter_context(serving.serving())}
        for level in _LEVELS:
            # One each, since the store's durability is all servers'.
            database = stack.enter_context(postgres.temporary())
            administration.init(database.url, level)
            found[f"PostgreSQL, {level}"] = stack.enter_context(serving.serving(store=database.url))
        yield found


def _alone(servers: Servers, bundle: Bundle, count: int) -> dict[str, tuple[float, float, float]]:
    """Returns the median echo and tick of a lone stream in us, and their ratio."""
    echoes: dict[str, list[np.ndarray]] = {name: [] for name in servers}
    ticks: dict[str, list[np.ndarray]] = {name: [] for name in servers}
    for _ in range(_ROUNDS):
        for name, server in servers.items():
            found = asyncio.run(pairs.measure(server.address, bundle, count // _ROUNDS))
            echoes[name].append(found.echoes)
            ticks[name].append(found.ticks)
    medians = {}
    for name in servers:
        echo = float(np.median(np.concatenate(echoes[name])))
        tick = float(np.median(np.concatenate(ticks[name])))
        medians[name] = (echo, tick, tick / echo)
    return medians


def _together(servers: Servers, bundle: Bundle, seconds: float) -> dict[str, tuple[float, float]]:
    """Returns echoes and ticks a second of many streams."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for _ in range(_ROUNDS):
        for name, server in servers.items():
            measuring = throughput.measure(server.address, bundle, _STREAMS, seconds / _ROUNDS)
            measured = asyncio.run(measuring)
            found[name].append((measured.echoes, measured.ticks))
    return {name: tuple(np.median(each, axis=0)) for name, each in found.items()}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--pairs", "pair_count", default=6_000, show_default=True, help="Echoes and ticks.")
@click.option("--seconds", default=12.0, show_default=True, help="Of each, from many streams.")
@click.option("--blocks", default=12, show_default=True, help="Of ticks whose CPU is counted.")
def main(pair_count: int, seconds: float, blocks: int) -> None:
    """Measures a tick on SQLite and on PostgreSQL, over an echo."""
    bundle = Bundle.load()
    try:
        programs.postgresql()
    except programs.MissingError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{machine.describe()}\nload before: {machine.load()}\n")
    with _servers() as servers:
        click.echo(f"{'alone, p50':26}{'echo us':>10}{'tick us':>10}{'ratio':>8}")
        for name, (echo, tick, ratio) in _alone(servers, bundle, pair_count).items():
            click.echo(f"{name:26}{echo:10.0f}{tick:10.0f}{ratio:8.2f}")
        head = f"{_STREAMS} streams"
        click.echo(f"\n{head:26}{'echoes/s':>10}{'ticks/s':>10}{'ratio':>8}")
        for name, (echoes, ticks) in _together(servers, bundle, seconds).items():
            click.echo(f"{name:26}{echoes:10,.0f}{ticks:10,.0f}{ticks / echoes:8.2f}")
        sides = [(server, caller.TICKS) for server in servers.values()]
        for count in (1, _STREAMS):
            each = max(1, _TICKS * _STREAMS // count // 4)
            times = asyncio.run(cpu.measure(sides, count, blocks, each))
            ratios = np.median(times / times[:, :1], axis=0)
            head = f"server's CPU, {count} streams"
            click.echo(f"\n{head:26}{'us a tick':>10}{'ratio':>8}")
            for name, time_us, ratio in zip(servers, np.median(times, axis=0), ratios, strict=True):
                click.echo(f"{name:26}{time_us:10.1f}{ratio:8.2f}")
    click.echo(f"\nload after: {machine.load()}")


if __name__ == "__main__":
    main()

"""The command: measures one thing after the other, and prints each as it is known."""

from __future__ import annotations

import asyncio

import click

from bench import machine, pairs, parts, serving, throughput
from tickcell.model import Bundle

_STREAM_COUNTS = (1, 32, 256)
_TENTHS = 10


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--pairs",
    "pair_count",
    type=click.IntRange(min=_TENTHS),
    default=20_000,
    show_default=True,
    help="Echoes and ticks, alternating.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
    show_default=True,
    help="How long to echo, and how long to tick, from each number of streams.",
)
def main(pair_count: int, seconds: float) -> None:
    """Measures a tick against a bare echo on the same server."""
    bundle = Bundle.load()
    click.echo(machine.describe())
    click.echo(f"load before: {machine.load()}\n")
    with serving.served() as address:
        measured = asyncio.run(pairs.measure(address, bundle, pair_count))
        _show_pairs(measured, "alone")
        beside = asyncio.run(pairs.measure(address, bundle, pair_count, idle_streams=1))
        _show_pairs(beside, "with a second stream open")
        click.echo(f"\n{'streams':>14}{'echoes/s':>10}{'ticks/s':>10}{'ratio':>8}")
        for count in _STREAM_COUNTS:
            found = asyncio.run(throughput.measure(address, bundle, count, seconds))
            click.echo(f"{count:14}{found.echoes:10,.0f}{found.ticks:10,.0f}{found.ratio:8.2f}")
    _, tick_us = measured.percentile(50)
    click.echo(f"\n{'warm, alone':14}{'us':>10}{'of a tick':>18}")
    for part in parts.measure(bundle):
        click.echo(f"{part.name:14}{part.time_us:10.1f}{part.time_us / tick_us:18.2f}")
    click.echo(f"\nload after: {machine.load()}")


def _show_pairs(measured: pairs.Pairs, how: str) -> None:
    click.echo(f"{len(measured.ticks):,} pairs, {how}")
    click.echo(f"{'':12}{'echo us':>12}{'tick us':>10}{'ratio':>8}")
    for percent in (50, 90, 99):
        echo, tick = measured.percentile(percent)
        click.echo(f"{f'p{percent}':>12}{echo:12.0f}{tick:10.0f}{measured.ratio(percent):8.2f}")
    tenths = measured.ratios(_TENTHS)
    click.echo(f"ratio at p50 in each tenth of the run: {min(tenths):.2f} to {max(tenths):.2f}")


if __name__ == "__main__":
    main()

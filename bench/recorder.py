"""What the flight recorder costs a tick: two servers at once, one of which records, take turns."""

from __future__ import annotations

import asyncio
import pathlib
import tempfile

import click
import numpy as np

from bench import caller, cpu, machine, pairs, serving
from tickcell.model import Bundle

_ROUNDS = 6
_TICKS = 200
_STREAMS = 32


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--pairs", "pair_count", default=6_000, show_default=True, help="Echoes and ticks.")
@click.option("--blocks", default=12, show_default=True, help="Of ticks whose CPU is counted.")
def main(pair_count: int, blocks: int) -> None:
    """Measures a tick beside a recorder, over one without."""
    bundle = Bundle.load()
    click.echo(f"{machine.describe()}\nload before: {machine.load()}\n")
    with (
        tempfile.TemporaryDirectory() as directory,
        serving.serving() as plain,
        serving.serving(record=directory) as recording,
    ):
        servers = {"no recorder": plain, "recorder": recording}
        ticks: dict[str, list[np.ndarray]] = {name: [] for name in servers}
        for _ in range(_ROUNDS):
            for name, server in servers.items():
                found = asyncio.run(pairs.measure(server.address, bundle, pair_count // _ROUNDS))
                ticks[name].append(found.ticks)
        click.echo(f"{'alone':26}{'p50 us':>10}{'p99 us':>10}")
        percentiles = {
            name: np.percentile(np.concatenate(each), (50, 99)) for name, each in ticks.items()
        }
        for name, (middle, late) in percentiles.items():
            click.echo(f"{name:26}{middle:10.0f}{late:10.0f}")
        ratio = percentiles["recorder"] / percentiles["no recorder"]
        click.echo(f"{'ratio':26}{ratio[0]:10.3f}{ratio[1]:10.3f}")
        sides = [(server, caller.TICKS) for server in servers.values()]
        for count in (1, _STREAMS):
            times = asyncio.run(cpu.measure(sides, count, blocks, _TICKS * _STREAMS // count // 4))
            added = np.median(times[:, 1] / times[:, 0])
            click.echo(
                f"server's CPU, {count} streams: {np.median(times[:, 0]):.1f} us a tick, "
                f"recording {added:.3f} of it"
            )
        sizes = [path.stat().st_size for path in pathlib.Path(directory).iterdir()]
        click.echo(f"files: {sum(sizes):,} bytes")
    click.echo(f"\nload after: {machine.load()}")


if __name__ == "__main__":
    main()

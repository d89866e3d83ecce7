"""The command `tickcell agent`."""

from __future__ import annotations

import contextlib
import pathlib
from typing import TYPE_CHECKING

import click
import numpy as np

from tickcell import drive
from tickcell.cli import plots, progress, server_process, temporary_session
from tickcell.cli.commands import connection, options
from tickcell.cli.tables import columns
from tickcell.client.credentials import Credentials
from tickcell.client.session import Session
from tickcell.drive.agent import HARSH, Agent, Trace, drive_unsupervised
from tickcell.model import Sensor

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command("agent")
@options.own_server
@options.credentials
@options.model
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="The length of the drive.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="The seed of the first car's drive.",
)
@click.option(
    "--cars",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="The number of cars that tick together, as series of one session, with the seeds after "
    "--seed.",
)
@click.option("--realtime", is_flag=True, help="Drive by the clock, and count late ticks.")
@click.option(
    "--hz",
    type=click.FloatRange(min=1),
    default=drive.RATE_HZ,
    show_default=True,
    help="Ticks per second with --realtime.",
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=pathlib.Path), help="Draw a PNG.")
def agent(
    server: str | None,
    credentials: Credentials,
    model: str,
    seconds: float,
    seed: int,
    cars: int,
    realtime: bool,
    hz: float,
    plot: pathlib.Path | None,
) -> None:
    r"""Drives the simulated car in closed loop: high outputs ease pedals and steering.

    Prints how harsh the drive was, what easing cost, and how late outputs were, and the
    same for that drive never and always eased; for several cars, the means. Ctrl-C
    deletes the session.

    \b
    tickcell agent
    tickcell agent --realtime --seconds 60 --plot agent.png
    tickcell agent --seed 7 --server localhost:50061
    tickcell agent --realtime --cars 8
    """
    if plot:
        plots.check_installed()
    seeds = range(seed, seed + cars)
    with contextlib.ExitStack() as stack:
        if server is None:
            server = stack.enter_context(server_process.temporary()).address
            credentials = Credentials()
        with connection.link(server, credentials) as link:
            served = connection.model(link, model)
        if _names(served.sensors) != _names(drive.SENSORS):
            raise click.ClickException(
                f"{served.name} {served.version} does not have the simulated car's sensors; name "
                "another model by --model."
            )
        threshold = served.outputs[0].threshold
        if threshold is None:
            raise click.ClickException(
                f"{served.name} {served.version}: its first output is not a probability, so it "
                "does not show when to ease the car; name another model by --model."
            )
        created = Session.create(
            server,
            model=served.name,
            model_version=served.version,
            series_count=cars,
            credentials=credentials,
        )
        session = stack.enter_context(_ended(created))
        advance = stack.enter_context(
            progress.bar(_named(seeds), round(seconds * drive.RATE_HZ), "tick")
        )
        supervisor = Agent(session, threshold, on_tick=advance)
        if realtime:
            traces = supervisor.drive_in_real_time(seeds, seconds, hz)
        else:
            traces = supervisor.drive_fast(seeds, seconds)
    never = [drive_unsupervised(each, seconds, eased=False) for each in seeds]
    always = [drive_unsupervised(each, seconds, eased=True) for each in seeds]
    if cars > 1:
        click.echo(f"means of {_named(seeds)}")
    click.echo(_drives({"never eased": never, "agent": traces, "always eased": always}))
    # A tick is one of all cars, and the last of them drives longest.
    longest = max(traces, key=lambda trace: len(trace.latencies_s))
    click.echo(_latencies(longest, hz if realtime else None))
    if plot:
        plots.agent(plot, never[0], traces[0], threshold)


@contextlib.contextmanager
def _ended(created: Session) -> Iterator[Session]:
    """Deletes the session at the end and at Ctrl-C, and says so then."""
    try:
        with temporary_session.deleted(created) as session:
            yield session
    except KeyboardInterrupt:
        click.echo(
            f"tickcell: stopped after {created.next_step} ticks; session {created.id} is deleted",
            err=True,
        )
        raise


def _names(sensors: tuple[Sensor, ...]) -> list[tuple[str, str]]:
    return [(sensor.name, sensor.unit) for sensor in sensors]


def _named(seeds: range) -> str:
    return f"drive {seeds[0]}" if len(seeds) == 1 else f"drives {seeds[0]} to {seeds[-1]}"


def _drives(traces: dict[str, list[Trace]]) -> str:
    rows = [("", f"OVER {HARSH:g} m/s2", "EASED AT LABEL 0", "TRIP TIME")] + [
        (
            name,
            f"{np.mean([trace.harsh_s for trace in each]):.1f} s",
            f"{np.mean([trace.eased_in_vain_s for trace in each]):.1f} s",
            f"{np.mean([trace.trip_s for trace in each]):.1f} s",
        )
        for name, each in traces.items()
    ]
    return columns(rows)


def _latencies(trace: Trace, rate_hz: float | None) -> str:
    """Returns how long outputs took; a late one counts as longer than all others."""
    shown = [
        f"{name} {'late' if np.isinf(value) else f'{1e3 * value:.2f} ms'}"
        for name, value in zip(
            ("p50", "p90", "p99", "max"),
            np.percentile(trace.latencies_s, [50, 90, 99, 100], method="higher"),
            strict=True,
        )
    ]
    late = "as fast as possible"
    if rate_hz is not None:
        count = len(trace.latencies_s)
        late = f"{trace.late_count} of {count} ticks late at {rate_hz:g} Hz"
    return f"{late}; from tick to output: {', '.join(shown)}"

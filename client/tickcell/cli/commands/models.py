"""The commands `tickcell models ...`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tickcell.cli.commands import connection, options
from tickcell.cli.tables import columns
from tickcell.client import unary_calls

if TYPE_CHECKING:
    from tickcell.client.credentials import Credentials


@click.group()
def models() -> None:
    """Shows what a server serves."""


@models.command("list")
@options.server
@options.credentials
def list_models(server: str, credentials: Credentials) -> None:
    r"""Lists the models, by name, then version.

    \b
    tickcell models list
    """
    rows = [("MODEL", "VERSION", "RATE", "SENSORS", "OUTPUTS", "FINGERPRINT", "NUMERICS")]
    with connection.link(server, credentials) as link:
        rows += [
            (
                model.name,
                model.version,
                f"{model.rate_hz:g} Hz",
                str(len(model.sensors)),
                str(len(model.output_names)),
                model.fingerprint[:12],
                model.numerics_digest,
            )
            for model in unary_calls.list_models(link)
        ]
    click.echo(columns(rows))


@models.command("show")
@click.argument("name", default="")
@click.argument("version", default="")
@options.server
@options.credentials
def show_model(name: str, version: str, server: str, credentials: Credentials) -> None:
    r"""Shows one model: what it expects, and what it answers.

    NAME and VERSION may be left out where only one is served.

    \b
    tickcell models show
    tickcell models show drive 1
    """
    with connection.link(server, credentials) as link:
        model = unary_calls.get_model(link, name, version)
    facts = [
        ("model", f"{model.name} {model.version}"),
        ("fingerprint", model.fingerprint),
        ("numerics digest", model.numerics_digest),
        ("rate", f"{model.rate_hz:g} Hz"),
        ("output", f"{', '.join(model.output_names)}: {model.output_meaning}"),
        ("threshold", f"{model.threshold:g}"),
        ("warm-up", f"{model.warm_up_step_count} steps"),
        ("state", ", ".join(f"{each.name} {list(each.shape)}" for each in model.state_tensors)),
    ]
    sensors = [("SENSOR", "UNIT", "LOWEST", "HIGHEST")] + [
        (sensor.name, sensor.unit, f"{sensor.min_reading:g}", f"{sensor.max_reading:g}")
        for sensor in model.sensors
    ]
    click.echo(columns(facts))
    click.echo()
    click.echo(columns(sensors))

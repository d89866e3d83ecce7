"""The commands `tickcell models ...`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tickcell.cli.commands import connection, options
from tickcell.cli.tables import columns
from tickcell.client import unary_calls

if TYPE_CHECKING:
    from tickcell.client.credentials import Credentials
    from tickcell.client.resources import Output
    from tickcell.model import Sensor


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
        ("warm-up", f"{model.warm_up_step_count} steps"),
        ("state", ", ".join(f"{each.name} {list(each.shape)}" for each in model.state_tensors)),
    ]
    if model.mask_value is not None:
        facts.append(("mask", f"a frame of which all readings are {model.mask_value:g}"))
    tables = (facts, _outputs(model.outputs), _sensors(model.sensors))
    click.echo("\n\n".join(columns(table) for table in tables))


def _outputs(outputs: Sequence[Output]) -> Sequence[Sequence[str]]:
    rows = [("OUTPUT", "KIND", "CLASSES", "UNIT", "THRESHOLD", "MEANING")]
    for output in outputs:
        classes = ", ".join(output.classes)
        if output.kind == "classes" and not classes:
            classes = f"{output.size} without names"
        threshold = "-" if output.threshold is None else f"{output.threshold:g}"
        name = (
            output.name
            if output.kind == "classes" or output.size == 1
            else (f"{output.name} ({output.size} numbers)")
        )
        rows.append(
            (
                name,
                output.kind,
                classes or "-",
                output.unit or "-",
                threshold,
                output.meaning or "-",
            )
        )
    return rows


def _sensors(sensors: Sequence[Sensor]) -> Sequence[Sequence[str]]:
    return [("SENSOR", "UNIT", "READINGS")] + [
        (sensor.name, sensor.unit or "-", sensor.expected) for sensor in sensors
    ]

"""The commands `tickcell models ...`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tickcell.cli.commands import connection, options
from tickcell.cli.tables import columns
from tickcell.client import errors, unary_calls

if TYPE_CHECKING:
    from tickcell.client.credentials import Credentials
    from tickcell.client.resources import Model, ModelVersion, Output
    from tickcell.model import Sensor


@click.group()
def models() -> None:
    """Shows the models of a server, and loads and unloads them."""


@models.command("list")
@options.server
@options.credentials
def list_models(server: str, credentials: Credentials) -> None:
    r"""Lists every version of every model, and how many sessions are pinned to it.

    Problems are listed below the table. If callers are identified, only operators see
    versions that new sessions cannot get.

    \b
    ready      new sessions get it; the default is for those that name no version
    retired    only sessions that are pinned to it still use it
    available  it is in the repository, but not loaded
    loading    it is new in the repository, and is served once it stops changing
    broken     it is in the repository, but cannot be served
    missing    sessions are pinned to it, but it is not in the repository

    \b
    tickcell models list
    """
    rows = [
        ("MODEL", "VERSION", "STATE", "SESSIONS", "RATE", "SENSORS", "OUTPUTS", "FINGERPRINT",
         "NUMERICS"),
    ]  # fmt: skip
    with connection.link(server, credentials) as link:
        served = {
            (model.name, model.version, model.fingerprint): model
            for model in link.do(unary_calls.list_models)
        }
        try:
            versions = list(link.do(unary_calls.list_model_versions))
        except errors.OperatorsOnlyError:
            rows += [(*place[:2], "ready", "-", *_facts(model)) for place, model in served.items()]
            versions = []
    for version in versions:
        model = served.get((version.name, version.version, version.fingerprint))
        rows.append(
            (
                version.name,
                version.version,
                version.state + (" (default)" if version.is_default else ""),
                str(version.session_count),
                *(_facts(model) if model else ("-", "-", "-", version.fingerprint[:12], "-")),
            )
        )
    click.echo(columns(rows))
    _echo_problems(versions)


def _facts(model: Model) -> tuple[str, str, str, str, str]:
    return (
        f"{model.rate_hz:g} Hz",
        str(len(model.sensors)),
        str(len(model.output_names)),
        model.fingerprint[:12],
        model.numerics_digest,
    )


@models.command("show")
@click.argument("name", default="")
@click.argument("version", default="")
@options.server
@options.credentials
def show_model(name: str, version: str, server: str, credentials: Credentials) -> None:
    r"""Shows one model: its sensors, its outputs and its state.

    NAME may be omitted if only one model is served, and VERSION for the newest.

    \b
    tickcell models show
    tickcell models show drive 1
    """
    with connection.link(server, credentials) as link:
        model = link.do(unary_calls.get_model, name, version)
    facts = [
        ("model", f"{model.name} {model.version}"),
        ("fingerprint", model.fingerprint),
        ("numerics digest", model.numerics_digest),
        ("rate", f"{model.rate_hz:g} Hz"),
        ("warm-up", f"{model.warm_up_step_count} steps"),
        ("state", ", ".join(f"{each.name} {list(each.shape)}" for each in model.state_tensors)),
    ]
    if model.mask_value is not None:
        facts.append(("mask", f"a frame in which all readings are {model.mask_value:g}"))
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


@models.command("load")
@click.argument("name")
@click.argument("version", default="")
@options.server
@options.credentials
def load_model(name: str, version: str, server: str, credentials: Credentials) -> None:
    r"""Loads a version from the server's repository and gives it to new sessions.

    VERSION is by default the newest in the repository. The server must run with
    --model-control explicit.

    \b
    tickcell models load drive
    tickcell models load drive 2
    """
    with connection.link(server, credentials) as link:
        loaded = link.do(unary_calls.load_model, name, version)
    click.echo(f"{loaded.name} {loaded.version}: new sessions get it ({loaded.fingerprint[:12]})")


@models.command("unload")
@click.argument("name")
@click.argument("version", default="")
@options.server
@options.credentials
def unload_model(name: str, version: str, server: str, credentials: Credentials) -> None:
    r"""Stops giving a version to new sessions; without VERSION, every version of the model.

    Sessions that are pinned to it continue, and it is unloaded once they have ended.
    The server must run with --model-control explicit.

    \b
    tickcell models unload drive 1
    """
    with connection.link(server, credentials) as link:
        unloaded = link.do(unary_calls.unload_model, name, version)
    for each in unloaded:
        click.echo(
            f"{each.name} {each.version}: no new sessions get it; live sessions that still use "
            f"it: {each.session_count}"
        )


def _echo_problems(versions: list[ModelVersion]) -> None:
    problems = [version for version in versions if version.problem]
    if problems:
        click.echo()
    for version in problems:
        click.echo(f"{version.name} {version.version}: {version.problem}")

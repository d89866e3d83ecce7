"""Options that several commands share."""

from __future__ import annotations

import pathlib

import click

from tickcell.client.address import DEFAULT_ADDRESS
from tickcell.client.link import RETRY_FOR_S
from tickcell.model.bundle import SHIPPED

server = click.option(
    "--server",
    envvar="TICKCELL_SERVER",
    default=DEFAULT_ADDRESS,
    show_default=True,
    show_envvar=True,
    metavar="ADDRESS",
    help="The server, HOST:PORT or unix:PATH.",
)

own_server = click.option(
    "--server",
    envvar="TICKCELL_SERVER",
    show_envvar=True,
    metavar="ADDRESS",
    help="The server, HOST:PORT or unix:PATH.  [default: one of its own, on a temporary store]",
)

retry_for = click.option(
    "--retry-for",
    "retry_for_s",
    type=click.FloatRange(min=0),
    default=RETRY_FOR_S,
    show_default=True,
    metavar="SECONDS",
    help="How long a server may be away; by the clock, 600 at least.",
)

bundle = click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path),
    default=SHIPPED,
    help="The bundle's directory.  [default: the one that ships with tickcell]",
)

model = click.option(
    "--model", default="", metavar="NAME[:VERSION]", help="The model, where several are served."
)

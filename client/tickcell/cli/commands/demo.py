"""The command `tickcell demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tickcell.cli.commands import options
from tickcell.cli.demo import Demo

if TYPE_CHECKING:
    import pathlib


@click.command("demo")
@options.bundle
def demo(bundle: pathlib.Path) -> int:
    r"""Starts a server, replays the sample, kills the server in the middle, and goes on.

    Compares every output with a loop that never saw a server. Exits with 1 if any
    differs.

    \b
    tickcell demo
    """
    return 0 if Demo(bundle, click.echo).run() else 1

"""The command `tickcell sample`."""

from __future__ import annotations

import sys

import click

from tickcell.cli import samples
from tickcell.model import recording


@click.command()
def sample() -> None:
    r"""Writes the sample recording to standard output, as CSV.

    It is a simulated drive: a column t in seconds, one column per sensor, and whether
    an aggressive manoeuvre is under way.

    \b
    tickcell sample > drive.csv
    """
    recording.write_csv(samples.shipped(), sys.stdout)

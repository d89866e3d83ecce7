"""The command `tickcell sample`."""

from __future__ import annotations

import sys

import click

from tickcell.cli import samples
from tickcell.model import recording


@click.command()
def sample() -> None:
    r"""Writes the sample recording to standard output, as CSV.

    It is the golden recording of the shipped model, a simulated drive: a column t in
    seconds, one column per sensor, and the label of each frame in a column named after the
    model's output.

    \b
    tickcell sample > drive.csv
    """
    recording.write_csv(samples.shipped(), sys.stdout)

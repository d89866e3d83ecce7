"""The options that the commands of several benchmarks share."""

from __future__ import annotations

import pathlib

import click

from bench import results
from bench.row import FULL, QUICK

results_directory = click.option(
    "--results",
    "directory",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    default=results.DIRECTORY,
    help="Where the run and its plot are written. [default: bench/results]",
)
# An `Effort`.
quick = click.option(
    "--quick",
    "effort",
    flag_value=QUICK,
    type=click.UNPROCESSED,
    default=FULL,
    help="See whether it runs; its figures are worth nothing.",
)

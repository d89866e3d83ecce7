"""Where a bundle is written."""

from __future__ import annotations

import pathlib

import click

from tickcell.model.bundle import FILES, SUMS

# All that a bundle's directory holds; nothing else is ever removed.
_FILES = {*FILES, SUMS}


def check_place(directory: pathlib.Path, replace: bool) -> None:
    """Refuses a place that has something in it, unless a bundle is to be replaced."""
    present = {path.name for path in directory.iterdir()} if directory.exists() else set()
    if present and not replace:
        raise click.ClickException(
            f"{directory}: is not empty; name a new directory, or replace the bundle (--replace)."
        )
    if strangers := sorted(present - _FILES):
        raise click.ClickException(
            f"{directory}: is not replaced, because it holds more than a bundle: {strangers}."
        )

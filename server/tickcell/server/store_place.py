"""How a store is named on the command line."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from tickcell.server import config


class StorePlace(click.ParamType[pathlib.Path | str]):
    """A directory, or the address of a PostgreSQL, which stays as it is written."""

    name = "DIRECTORY|postgresql://..."

    def convert(self, value: Any, *_: object) -> pathlib.Path | str:
        return value if config.is_address(value) else pathlib.Path(value)

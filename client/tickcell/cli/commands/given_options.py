"""The options that were given on the command line, and not by a default or the environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click
from click.core import ParameterSource


def names(context: click.Context) -> dict[str, str]:
    """Returns their flags by their parameters: {"rate_hz": "--rate-hz"}."""
    return {option.name or "": option.opts[0] for option in _options(context)}


def words(context: click.Context, wanted: Callable[[str], bool]) -> list[str]:
    """Returns them as they stand on a command line, if their parameters are wanted."""
    found: list[str] = []
    for option in _options(context):
        value = context.params[option.name or ""]
        values = value if isinstance(value, tuple) else (value,)
        for one in values if wanted(option.name or "") else ():
            found += [option.opts[0], *([] if one is True else [_word(one)])]
    return found


def _options(context: click.Context) -> Iterator[click.Option]:
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if isinstance(option, click.Option) and source is ParameterSource.COMMANDLINE:
            yield option


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

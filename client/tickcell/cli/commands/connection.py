"""A first contact with a server: where none answers, it says how to start one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from tickcell.client import errors, unary_calls
from tickcell.client.link import Link

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tickcell.client.credentials import Credentials
    from tickcell.client.resources import Model

# A server that is just starting serves in less.
_RETRY_FOR_S = 2.0


@contextlib.contextmanager
def link(server: str, credentials: Credentials) -> Iterator[Link]:
    """Gives a link for a command's first calls.

    Raises:
      ClickException: no server answers.
    """
    try:
        with Link(server, credentials=credentials, retry_for_s=_RETRY_FOR_S) as opened:
            yield opened
    except errors.UnavailableError as error:
        raise click.ClickException(
            f"{server}: no server answers; start one with: tickcell serve"
        ) from error


def model(link: Link, name_and_version: str) -> Model:
    """Gets the model that the option --model names.

    Raises:
      ClickException: it is not served, or none is named where several are.
    """
    name, _, version = name_and_version.partition(":")
    try:
        return unary_calls.get_model(link, name, version)
    except (errors.ArgumentInvalidError, errors.ModelUnknownError) as error:
        raise click.ClickException(f"{error} Name one with --model NAME[:VERSION].") from error

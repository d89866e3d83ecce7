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
        raise click.ClickException(f"{server}: {_trouble(str(error))}") from error


def _trouble(said: str) -> str:
    """Returns what is wrong, and the way out, from the text of gRPC."""
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return "the server's certificate is not signed by an authority of --ca, or has expired."
    if "Hostname Verification" in said:
        return "the server's certificate is for another name; give that with --server-name."
    if "WRONG_VERSION_NUMBER" in said:
        return "the server does not speak TLS."
    if "Socket closed" in said:
        return (
            "the server closes the connection before it answers: it may require TLS (--tls "
            "or --ca), or a certificate that it trusts (--certificate and --key)."
        )
    return "no server answers; start one with: tickcell serve"


def model(link: Link, name_and_version: str) -> Model:
    """Gets the model that the option --model names.

    Raises:
      ClickException: it is not served, or none is named where several are.
    """
    name, _, version = name_and_version.partition(":")
    try:
        return link.do(unary_calls.get_model, name, version)
    except (errors.ArgumentInvalidError, errors.ModelUnknownError) as error:
        raise click.ClickException(f"{error} Name one with --model NAME[:VERSION].") from error

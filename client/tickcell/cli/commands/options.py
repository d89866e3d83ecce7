"""Options that several commands share."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from tickcell.client.address import DEFAULT_ADDRESS
from tickcell.client.credentials import Credentials
from tickcell.client.route import RETRY_FOR_S
from tickcell.model.bundle import SHIPPED

_Command = TypeVar("_Command", bound=Callable[..., Any])

# The parameters for the connection to a server, on any command.
OF_CONNECTIONS = ("server", "tls", "ca", "certificate", "key", "server_name", "token_file")

_FILE = click.Path(dir_okay=False, path_type=pathlib.Path)

server = click.option(
    "--server",
    envvar="TICKCELL_SERVER",
    default=DEFAULT_ADDRESS,
    show_default=True,
    show_envvar=True,
    metavar="ADDRESS",
    help="The server, HOST:PORT or unix:PATH; or several of one store, separated by commas.",
)

own_server = click.option(
    "--server",
    envvar="TICKCELL_SERVER",
    show_envvar=True,
    metavar="ADDRESS",
    help="The server, HOST:PORT or unix:PATH.  [default: a new one, on a temporary store]",
)

owner = click.option(
    "--owner",
    default="",
    metavar="NAME",
    help="The session's owner, for operators.  [default: you]",
)

_CREDENTIALS: dict[str, dict[str, Any]] = {
    "--tls": {"is_flag": True, "help": "Connect with TLS; --ca to --server-name imply it."},
    "--ca": {
        "type": _FILE,
        "help": "The authorities of the server's certificate, PEM.  [default: those of gRPC]",
    },
    "--certificate": {"type": _FILE, "help": "A certificate of your own, PEM."},
    "--key": {"type": _FILE, "help": "The key of your certificate, PEM."},
    "--server-name": {
        "default": "",
        "metavar": "NAME",
        "help": "The name in the server's certificate.  [default: the host's]",
    },
    "--token-file": {
        "type": _FILE,
        "help": "A file with your token. Or set TICKCELL_TOKEN to the token itself.",
    },
}


def credentials(command: _Command) -> _Command:
    """Adds the options on TLS and tokens to a command, which gets them as `credentials`."""

    @functools.wraps(command)
    def gathered(*args: Any, **given: Any) -> Any:
        told = {name: given.pop(name) for name in OF_CONNECTIONS[1:]}
        # No flag: any user of the machine can read a command line.
        token = os.environ.get("TICKCELL_TOKEN", "")
        source = click.get_current_context().get_parameter_source("token_file")
        if source is ParameterSource.COMMANDLINE:
            token = ""
        return command(*args, credentials=Credentials(token=token, **told), **given)

    decorated: Any = gathered
    for flag, settings in reversed(_CREDENTIALS.items()):
        variable = "TICKCELL_" + flag.removeprefix("--").replace("-", "_").upper()
        decorated = click.option(flag, envvar=variable, show_envvar=True, **settings)(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators are untyped


retry_for = click.option(
    "--retry-for",
    "retry_for_s",
    type=click.FloatRange(min=0),
    default=RETRY_FOR_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to retry while a server is away; at least 600 in a replay by the clock.",
)

bundle = click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path),
    default=SHIPPED,
    help="The bundle's directory.  [default: the one that ships with tickcell]",
)

model = click.option(
    "--model", default="", metavar="NAME[:VERSION]", help="The model, if several are served."
)

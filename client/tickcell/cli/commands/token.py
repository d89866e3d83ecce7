"""The command `tickcell token`."""

from __future__ import annotations

import os
import pathlib

import click

from tickcell.server import tokens


@click.command()
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    help="The file for the token, which must not exist.  [default: standard error]",
)
def token(name: str, out: pathlib.Path | None) -> None:
    r"""Makes a token for the caller NAME, and prints the line for the server's file.

    The line has the token's hash and goes into the file of 'tickcell serve --tokens'. The token
    itself goes to the caller, and is stored nowhere else. To replace a token without a gap, add
    a second one with the same name, give it to the caller, then remove the first line.

    \b
    tickcell token robot-7 --out robot-7.token >> tokens
    """
    if not tokens.NAME.fullmatch(name):
        raise click.UsageError(f"NAME: got {name!r}, expected {tokens.NAME_EXPECTED}.")
    drawn = tokens.draw()
    if out is None:
        click.echo(f"tickcell: the token, which is shown only now: {drawn}", err=True)
    else:
        # For its caller alone, from its first byte on.
        number = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(number, "w", encoding="ascii") as file:
            file.write(drawn + "\n")
    click.echo(tokens.line(name, drawn))

"""The commands `tickcell store inspect | recover | backup`."""

from __future__ import annotations

import contextlib
import pathlib
from typing import TYPE_CHECKING

import click

from tickcell.server import config
from tickcell.server.store import entries, premises
from tickcell.server.store.backup import backup as make_backup
from tickcell.server.store.errors import StoreError
from tickcell.server.store.inspection import inspect as inspect_store
from tickcell.server.store.lmdb_store import MAP_SIZE
from tickcell.server.store.recovery import recover_stopped
from tickcell.server.store.versions import version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tickcell.server.store.inspection import Inspection

_PROBLEMS_SHOWN = 8


_directory_option = click.option(
    "--store",
    "directory",
    type=click.Path(path_type=pathlib.Path),
    envvar="TICKCELL_STORE",
    show_envvar=True,
    default=config.default_store,
    show_default="$XDG_STATE_HOME/tickcell",
    help="The directory that keeps the sessions.",
)


@click.group()
def store() -> None:
    """Looks after the directory that keeps the sessions."""


@store.command()
@_directory_option
def inspect(directory: pathlib.Path) -> None:
    """Shows what a store holds and who has it open; changes nothing.

    Without a live server, every page and record is examined; damage gives exit code 1.
    """
    with _one_sentence():
        found = inspect_store(directory, map_size=MAP_SIZE, check=version, boot_id=entries.boot())
    _show(directory, found)
    if found.problems:
        raise click.ClickException(
            f"{directory}: is damaged; run 'tickcell store recover --store {directory}'."
        )


@store.command()
@_directory_option
def recover(directory: pathlib.Path) -> None:
    """Keeps every record that checks out, and reports the rest.

    Needs all servers on the store to be stopped. The damaged file stays beside the new
    one, until you remove it. A sound store is left as it is.
    """
    with _one_sentence():
        outcome = recover_stopped(directory, version, entries.boot())
    click.echo(f"{directory}: {outcome}.")


@store.command()
@_directory_option
@click.argument("destination", type=click.Path(path_type=pathlib.Path))
def backup(directory: pathlib.Path, destination: pathlib.Path) -> None:
    """Copies a store to DESTINATION as it is at one moment, also beside live servers.

    The copy is a store itself: serve it with --store DESTINATION to restore it. Clients
    that are further on are told so (STEP_GAP).
    """
    with _one_sentence():
        record_count = make_backup(
            directory, destination, map_size=MAP_SIZE, check=version, boot_id=entries.boot()
        )
    size = (destination / premises.DATA).stat().st_size
    click.echo(f"{destination}: {record_count:,} records in {size:,} bytes, all sound.")


def _show(directory: pathlib.Path, found: Inspection) -> None:
    if found.problems is None:
        condition = "not examined beside live servers"
    else:
        problem_count = len(found.problems)
        condition = f"problems: {problem_count:,}" if problem_count else "all sound"
    used = "" if found.used_bytes is None else f", {found.used_bytes:,} of them in use"
    click.echo(f"store    {directory}")
    click.echo(f"schema   {'unknown' if found.schema is None else found.schema}")
    click.echo(f"records  {found.record_count:,} ({condition})")
    click.echo(f"size     {found.file_bytes:,} bytes{used}")
    for index, entry in enumerate(found.found or ["by no process"]):
        click.echo(f"{'' if index else 'opened':9}{entry}")
    problems = found.problems or []
    for problem in problems[:_PROBLEMS_SHOWN]:
        click.echo(f"problem  {problem}")
    if len(problems) > _PROBLEMS_SHOWN:
        click.echo(f"         and {len(problems) - _PROBLEMS_SHOWN} more")


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    """Ends the command with the error's sentence instead of a traceback."""
    try:
        yield
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}.") from error

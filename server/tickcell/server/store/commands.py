"""The commands `tickcell store inspect | check | backup | restore | durability`."""

from __future__ import annotations

import contextlib
import pathlib
from typing import TYPE_CHECKING, get_args

import click

from tickcell.server import config, record
from tickcell.server.store import backup as backups
from tickcell.server.store import checking, database, opening
from tickcell.server.store import directory as directories
from tickcell.server.store.durability import Durability
from tickcell.server.store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tickcell.server.store.checking import Checked

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
    """Shows what a store holds and who has it open; changes nothing."""
    with _one_sentence():
        with directories.guard(directory) if directory.is_dir() else contextlib.nullcontext():
            users = directories.users(directory)
        with opening.existing(directory, alone=False) as opened:
            schema = database.require_schema(directory, opened.connection)
            live, ended = database.read_counts(directory, opened.connection)
    sizes = [
        f"{name} {size:,}"
        for name in (directories.DATABASE, directories.LOG, directories.RESERVE)
        if (size := _size(directory / name))
    ]
    identity = opened.identity
    click.echo(f"store       {directory}")
    click.echo(f"id          {identity.id}")
    click.echo(f"schema      {schema}")
    click.echo(f"durability  {identity.durability}")
    click.echo(f"sessions    {live:,} live, {ended:,} ended")
    click.echo(f"clock       {identity.clock.now_ns / config.NANOSECONDS:,.0f} s kept up")
    click.echo(f"bytes       {', '.join(sizes)}")
    for index, user in enumerate(users or ["nobody"]):
        click.echo(f"{'' if index else 'open in':12}{user}")


@store.command()
@_directory_option
def check(directory: pathlib.Path) -> None:
    """Checks every page and record, also beside live servers; changes nothing.

    What does not check out is shown, and gives exit code 1.
    """
    with _one_sentence(), opening.existing(directory, alone=False) as opened:
        checked = checking.check_all(opened.connection, record.problem)
    _report(directory, checked)


@store.command()
@_directory_option
@click.argument("destination", type=click.Path(path_type=pathlib.Path))
def backup(directory: pathlib.Path, destination: pathlib.Path) -> None:
    """Copies a store to the file DESTINATION as it is at one moment, also beside live servers.

    'tickcell store restore' puts it back.
    """
    with _one_sentence():
        checked = backups.backup(directory, destination, record.problem)
    _report(destination, checked)


@store.command()
@_directory_option
@click.argument("source", metavar="BACKUP", type=click.Path(path_type=pathlib.Path))
@click.option("--allow-network-filesystem", is_flag=True, help="As for 'tickcell serve'.")
def restore(directory: pathlib.Path, source: pathlib.Path, allow_network_filesystem: bool) -> None:
    """Puts the file BACKUP in the place of a store, which is moved aside with all its files.

    Needs all servers on the store to be stopped. Clients that are further on than the
    backup are told so (STEP_GAP).
    """
    with _one_sentence():
        restored = backups.restore(
            directory, source, record.problem, allow_network_filesystem=allow_network_filesystem
        )
    if restored.aside is not None:
        click.echo(f"{restored.aside}: holds the old store; remove it when you no longer need it.")
    _report(directory, restored.checked)


@store.command()
@_directory_option
@click.argument("level", type=click.Choice(get_args(Durability)))
def durability(directory: pathlib.Path, level: Durability) -> None:
    """Changes what an acknowledged step survives, for all servers on a store.

    Needs all of them to be stopped.
    """
    with _one_sentence(), opening.existing(directory, alone=True) as opened:
        before = opened.identity.durability
        with opened.connection:
            database.write_identity(opened.connection, opened.identity._replace(durability=level))
    click.echo(f"{directory}: keeps durability {level} from now on; it was {before}.")


def _report(place: pathlib.Path, checked: Checked) -> None:
    problems = checked.page_problems + checked.record_problems
    for problem in problems[:_PROBLEMS_SHOWN]:
        click.echo(f"problem  {problem}")
    if len(problems) > _PROBLEMS_SHOWN:
        click.echo(f"         and {len(problems) - _PROBLEMS_SHOWN:,} more")
    said = f"{place}: {checked.record_count:,} records"
    if problems:
        raise click.ClickException(f"{said}, {len(problems):,} problems.")
    click.echo(f"{said}, all sound.")


def _size(path: pathlib.Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    """Ends the command with the error's sentence instead of a traceback."""
    try:
        yield
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}.") from error

"""The commands `tickcell store inspect | check | backup | restore | durability | init`."""

from __future__ import annotations

import contextlib
import importlib
import pathlib
from typing import TYPE_CHECKING, cast, get_args

import click

from tickcell.model import MissingExtraError, extras
from tickcell.server import config, record
from tickcell.server.store import backup as backups
from tickcell.server.store import checking, database, opening
from tickcell.server.store import directory as directories
from tickcell.server.store.durability import Durability
from tickcell.server.store.errors import StoreError
from tickcell.server.store_place import StorePlace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from tickcell.server.store.checking import Checked

_PROBLEMS_SHOWN = 8

# Of a store in PostgreSQL; what loads them needs the extra.
_LEVELS = config.POSTGRES_LEVELS


_place_option = click.option(
    "--store",
    "place",
    type=StorePlace(),
    envvar="TICKCELL_STORE",
    show_envvar=True,
    default=config.default_store,
    show_default="$XDG_STATE_HOME/tickcell",
    help="The directory of the sessions, or the address of their PostgreSQL.",
)


@click.group()
def store() -> None:
    """Inspects, checks and copies the store of sessions, a directory or a PostgreSQL."""


@store.command()
@_place_option
def inspect(place: pathlib.Path | str) -> None:
    """Shows what a store holds and which processes have it open; changes nothing."""
    if isinstance(place, str):
        with _one_sentence():
            shown = _postgres().inspect(place)
        for name, value in shown:
            click.echo(f"{name:12}{value}")
        return
    directory = place
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
@_place_option
def check(place: pathlib.Path | str) -> None:
    """Checks every page and record, even while servers run; changes nothing.

    Shows what is damaged, and then exits with 1.
    """
    with _one_sentence():
        if isinstance(place, str):
            checked = _postgres().check(place, record.problem)
        else:
            with opening.existing(place, alone=False) as opened:
                checked = checking.check_all(opened.connection, record.problem)
    _report(place, checked)


@store.command()
@_place_option
@click.argument("destination", type=click.Path(path_type=pathlib.Path))
def backup(place: pathlib.Path | str, destination: pathlib.Path) -> None:
    """Copies a store, as of one moment, to the file DESTINATION, even while servers run.

    'tickcell store restore' restores it.
    """
    directory = _directory(place, "pg_basebackup, or pg_dump --format custom")
    with _one_sentence():
        checked = backups.backup(directory, destination, record.problem)
    _report(destination, checked)


@store.command()
@_place_option
@click.argument("source", metavar="BACKUP", type=click.Path(path_type=pathlib.Path))
@click.option("--allow-network-filesystem", is_flag=True, help="As for 'tickcell serve'.")
def restore(
    place: pathlib.Path | str, source: pathlib.Path, allow_network_filesystem: bool
) -> None:
    """Replaces a store by the file BACKUP, and moves the old store aside with all its files.

    All servers of the store must be stopped. Clients that are ahead of the backup get
    STEP_GAP.
    """
    directory = _directory(place, "pg_restore")
    with _one_sentence():
        restored = backups.restore(
            directory, source, record.problem, allow_network_filesystem=allow_network_filesystem
        )
    if restored.aside is not None:
        click.echo(f"{restored.aside}: holds the old store; remove it when you no longer need it.")
    _report(directory, restored.checked)


@store.command()
@_place_option
@click.argument("level", type=click.Choice([*get_args(Durability), *_LEVELS]))
def durability(place: pathlib.Path | str, level: str) -> None:
    """Changes what an acknowledged step survives, for all servers of a store.

    All servers on a directory must be stopped; those on PostgreSQL follow by themselves.
    """
    levels = _LEVELS if isinstance(place, str) else get_args(Durability)
    if level not in levels:
        raise click.UsageError(f"got {level}, expected one of {', '.join(levels)} for {place}.")
    with _one_sentence():
        if isinstance(place, str):
            before = _postgres().change_durability(place, level)
        else:
            with opening.existing(place, alone=True) as opened:
                before = opened.identity.durability
                identity = opened.identity._replace(durability=cast("Durability", level))
                with opened.connection:
                    database.write_identity(opened.connection, identity)
    click.echo(f"{place}: has durability {level} from now on; it was {before}.")


@store.command()
@click.argument("address", type=StorePlace(), metavar="postgresql://USER@HOST/DATABASE")
@click.option(
    "--durability",
    "level",
    type=click.Choice(_LEVELS),
    help="What an acknowledged step survives. [default: power-loss for a new store]",
)
def init(address: pathlib.Path | str, level: str | None) -> None:
    """Creates a store in a database of PostgreSQL, or migrates it to this release.

    A store in a directory needs no such command. Servers of an older release refuse a
    migrated store: stop them first.
    """
    if not isinstance(address, str):
        raise click.UsageError(
            f"got {address}, expected postgresql://USER@HOST/DATABASE; a directory becomes a store "
            "by itself when a server starts on it."
        )
    with _one_sentence():
        done = _postgres().init(address, level)
    click.echo(done)


def _postgres() -> ModuleType:
    """Returns what administers a store in PostgreSQL."""
    extras.load("asyncpg", extra="postgres")
    return importlib.import_module("tickcell.server.store.postgres.administration")


def _directory(place: pathlib.Path | str, instead: str) -> pathlib.Path:
    """Returns a store's directory; PostgreSQL has tools of its own."""
    if isinstance(place, str):
        raise click.ClickException(f"{place}: use PostgreSQL's own tools, such as {instead}.")
    return place


def _report(place: pathlib.Path | str, checked: Checked) -> None:
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
    except (MissingExtraError, StoreError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}.") from error

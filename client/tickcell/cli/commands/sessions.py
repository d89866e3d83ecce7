"""The commands `tickcell sessions ...`."""

from __future__ import annotations

import datetime
import functools
import os
import pathlib
from typing import TYPE_CHECKING

import click
import numpy as np

from tickcell.cli.commands import connection, options
from tickcell.cli.tables import columns
from tickcell.client import state_calls, unary_calls

if TYPE_CHECKING:
    from tickcell.client.credentials import Credentials
    from tickcell.client.resources import SessionInfo


_FILE = click.Path(dir_okay=False, path_type=pathlib.Path)


@click.group()
def sessions() -> None:
    """Shows, claims, copies, moves, resets and deletes sessions."""


@sessions.command("list")
@options.server
@options.credentials
@click.option(
    "--owner",
    default="",
    metavar="NAME",
    help="List only this owner's sessions, for operators.  [default: all that you may see]",
)
def list_sessions(server: str, credentials: Credentials, owner: str) -> None:
    r"""Lists the live sessions, by owner and id.

    \b
    tickcell sessions list
    """
    rows = [("SESSION", "NEXT STEP", "SERIES", "WINDOW", "MODEL", "EXPIRES", "OWNER")]
    with connection.link(server, credentials) as link:
        rows += [
            (
                session.id,
                str(session.next_step),
                str(session.series_count),
                str(session.window_step_count),
                f"{session.model} {session.model_version}",
                _moment(session.expire_time),
                session.owner or "-",
            )
            for session in link.do(unary_calls.list_sessions, owner=owner)
        ]
    click.echo(columns(rows))


@sessions.command("show")
@click.argument("session")
@options.server
@options.credentials
@options.owner
def show_session(session: str, server: str, credentials: Credentials, owner: str) -> None:
    r"""Shows one session.

    \b
    tickcell sessions show car-7
    """
    with connection.link(server, credentials) as link:
        _echo(link.do(unary_calls.get_session, session, owner=owner))


@sessions.command("reset")
@click.argument("session")
@options.server
@options.credentials
@options.owner
def reset_session(session: str, server: str, credentials: Credentials, owner: str) -> None:
    r"""Resets a session to its beginning; a program that is stepping it gets an error.

    \b
    tickcell sessions reset car-7
    """
    with connection.link(server, credentials) as link:
        before = link.do(unary_calls.get_session, session, owner=owner)
        _echo(link.do(unary_calls.reset_session, session, before.generation, owner=owner))


@sessions.command("claim")
@click.argument("session")
@click.option("--force", is_flag=True, help="Claim whichever generation is alive by then.")
@options.server
@options.credentials
@options.owner
def claim_session(
    session: str, force: bool, server: str, credentials: Credentials, owner: str
) -> None:
    r"""Claims a session: a program that is stepping it can no longer do so.

    \b
    tickcell sessions claim car-7
    """
    with connection.link(server, credentials) as link:
        generation = None
        if not force:
            generation = link.do(unary_calls.get_session, session, owner=owner).generation
        _echo(link.do(state_calls.claim_session, session, generation, owner=owner))


@sessions.command("fork")
@click.argument("source")
@click.argument("session", default="")
@click.option("--step", type=int, help="Fork only if this is the source's next step.")
@options.server
@options.credentials
@options.owner
def fork_session(
    source: str, session: str, step: int | None, server: str, credentials: Credentials, owner: str
) -> None:
    r"""Copies a session to one of your own, which continues from the same state.

    \b
    tickcell sessions fork car-7 what-if
    """
    with connection.link(server, credentials) as link:
        before = link.do(unary_calls.get_session, source, owner=owner)
        fork = functools.partial(state_calls.fork_session, step=step, owner=owner)
        _echo(link.do(fork, source, before.generation, session))


@sessions.command("outputs")
@click.argument("session")
@options.server
@options.credentials
@options.owner
def show_outputs(session: str, server: str, credentials: Credentials, owner: str) -> None:
    r"""Shows the outputs of a session's last steps, those in its window.

    \b
    tickcell sessions outputs car-7
    """
    with connection.link(server, credentials) as link:
        info = link.do(unary_calls.get_session, session, owner=owner)
        kept = link.do(state_calls.get_outputs, session, info.generation, owner=owner)
    rows = [("STEP", "SERIES", "OUTPUTS")]
    table = np.frombuffer(kept.outputs, "<f4").reshape(-1, info.series_count, info.output_count)
    for step, outputs in enumerate(table, kept.first_step):
        rows += [
            (str(step), str(series), " ".join(f"{each:g}" for each in own))
            for series, own in enumerate(outputs)
        ]
    click.echo(columns(rows))


@sessions.command("export")
@click.argument("session")
@click.argument("file", type=_FILE)
@click.option("--end", is_flag=True, help="Also end the session, so that it continues only there.")
@options.server
@options.credentials
@options.owner
def export_session(
    session: str, file: pathlib.Path, end: bool, server: str, credentials: Credentials, owner: str
) -> None:
    r"""Writes a whole session to a file, from which another server can continue.

    \b
    tickcell sessions export car-7 car-7.session --end
    """
    if file.exists():
        raise click.ClickException(f"{file}: already exists; name another file.")
    with connection.link(server, credentials) as link:
        before = link.do(unary_calls.get_session, session, owner=owner)
        export = functools.partial(state_calls.export_session, owner=owner)
        # The session ends only once the file is known to have room for it.
        for ends in (False, True) if end else (False,):
            _write(file, link.do(export, session, before.generation, end=ends))
    how = "exported and ended" if end else "exported"
    click.echo(f"{how} {session} to {file}")


@sessions.command("import")
@click.argument("file", type=_FILE)
@click.argument("session", default="")
@options.server
@options.credentials
def import_session(file: pathlib.Path, session: str, server: str, credentials: Credentials) -> None:
    r"""Creates a session from a file of 'tickcell sessions export'.

    \b
    tickcell sessions import car-7.session car-7
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}.") from error
    with connection.link(server, credentials) as link:
        _echo(link.do(unary_calls.create_session, session, export=content))


@sessions.command("migrate")
@click.argument("session")
@click.argument("version", default="")
@options.server
@options.credentials
@options.owner
def migrate_session(
    session: str, version: str, server: str, credentials: Credentials, owner: str
) -> None:
    r"""Moves a session to another version of its model, by default the newest.

    \b
    tickcell sessions migrate car-7 2
    """
    with connection.link(server, credentials) as link:
        before = link.do(unary_calls.get_session, session, owner=owner)
        _echo(
            link.do(state_calls.migrate_session, session, before.generation, version, owner=owner)
        )


@sessions.command("delete")
@click.argument("session", nargs=-1, required=True)
@options.server
@options.credentials
@options.owner
def delete_session(
    session: tuple[str, ...], server: str, credentials: Credentials, owner: str
) -> None:
    r"""Deletes sessions.

    \b
    tickcell sessions delete car-7 car-8
    """
    with connection.link(server, credentials) as link:
        for each in session:
            before = link.do(unary_calls.get_session, each, owner=owner)
            link.do(unary_calls.delete_session, each, before.generation, owner=owner)
            click.echo(f"deleted {each} at step {before.next_step}")


def _write(file: pathlib.Path, content: bytes) -> None:
    """Writes a file through to the disk.

    Raises:
      ClickException: it cannot be written.
    """
    try:
        with file.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}.") from error


def _echo(session: SessionInfo) -> None:
    ttl = "never expires" if session.idle_ttl_s is None else f"{session.idle_ttl_s:g} s"
    facts = [
        ("session", session.id),
        ("owner", session.owner or "-"),
        ("generation", str(session.generation)),
        ("next step", str(session.next_step)),
        ("origin", f"step {session.origin_step}"),
        ("model", f"{session.model} {session.model_version}"),
        ("fingerprint", session.model_fingerprint),
        ("numerics digest", f"{session.numerics_digest} from step {session.numerics_start_step}"),
        ("series", f"{session.series_count} of {session.sensor_count} sensors"),
        ("window", f"{session.window_step_count} steps"),
        ("idle time to live", ttl),
        ("created", _moment(session.create_time)),
        ("renewed", _moment(session.renew_time)),
        ("expires", _moment(session.expire_time)),
    ]
    facts += [(f"label {key}", value) for key, value in sorted(session.labels.items())]
    click.echo(columns(facts))


def _moment(time: datetime.datetime | None) -> str:
    """Returns a time to the second, in the caller's own zone."""
    return "never" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")

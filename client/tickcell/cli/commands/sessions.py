"""The commands `tickcell sessions ...`."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import click

from tickcell.cli.commands import connection, options
from tickcell.cli.tables import columns
from tickcell.client import unary_calls

if TYPE_CHECKING:
    from tickcell.client.credentials import Credentials
    from tickcell.client.resources import SessionInfo


@click.group()
def sessions() -> None:
    """Shows, resets and deletes sessions."""


@sessions.command("list")
@options.server
@options.credentials
@click.option(
    "--owner", default="", metavar="NAME", help="Whose, for operators.  [default: all you may see]"
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
    r"""Starts a session again from step 0; whoever is stepping it is told.

    \b
    tickcell sessions reset car-7
    """
    with connection.link(server, credentials) as link:
        before = link.do(unary_calls.get_session, session, owner=owner)
        _echo(link.do(unary_calls.reset_session, session, before.generation, owner=owner))


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


def _echo(session: SessionInfo) -> None:
    ttl = "never expires" if session.idle_ttl_s is None else f"{session.idle_ttl_s:g} s"
    facts = [
        ("session", session.id),
        ("owner", session.owner or "-"),
        ("generation", str(session.generation)),
        ("next step", str(session.next_step)),
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
    """Says a time to the second, in the caller's own zone."""
    return "never" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")

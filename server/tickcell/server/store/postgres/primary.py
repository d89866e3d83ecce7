"""Finds the primary among the hosts of a store, and makes sure that it keeps its promise."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from tickcell.server.store.errors import (
    OtherDurabilityError,
    StoreAwayError,
    StorePermissionError,
)
from tickcell.server.store.postgres import levels, refusals, schema
from tickcell.server.store.postgres.identity import Identity

if TYPE_CHECKING:
    from tickcell.server.store.postgres.address import Address
    from tickcell.server.store.postgres.levels import Level

    Connection = asyncpg.Connection[Any]

_CONNECT_S = 2.0
# Once there is a primary, others get so long to say that they are one, too: an old one that came
# back may be the first to answer, unless this one was promoted since we last looked.
_OTHERS_S = 1.0
_OTHERS_OF_A_NEWER_S = 0.1
# Of ours, wherever the server stands. A row is waited for as long as a locked store is; a
# server of ours that vanishes leaves nothing behind; nothing else ends a commit.
_SETTINGS = {
    "application_name": "tickcell",
    "lock_timeout": "1000",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "5000",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "5",
    "jit": "off",
    # A plan that the size of the tables does not change: by the primary key.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_TIMELINE = """
SELECT CASE WHEN pg_is_in_recovery() THEN NULL
  ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint END
"""
# A commit of our own: when it is through, so is all that was visible before it.
_PROVE = "UPDATE tickcell.store SET timeline = $1"
# What nobody but an operator changes: a user, a password, a database, whom to trust, a parameter.
_REFUSED = (
    ssl.SSLCertVerificationError,
    asyncpg.ClientConfigurationError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidParameterValueError,
    asyncpg.UndefinedObjectError,
)


class Primary(NamedTuple):
    """A primary that can be asked.

    Attributes:
      host: its address alone.
      connection: to it.
      timeline: of its log; each promotion of a standby begins a new one.
    """

    host: str
    connection: Connection
    timeline: int


async def connect(host: str, level: Level | None) -> Connection:
    """Connects to one server, for commits of a level; None leaves that to PostgreSQL."""
    settings = dict(_SETTINGS)
    if level is not None:
        settings["synchronous_commit"] = levels.synchronous_commit(level)
    connection: Connection = await asyncpg.connect(
        host, timeout=_CONNECT_S, server_settings=settings
    )
    return connection


async def find(address: Address, known_timeline: int = 0) -> Primary:
    """Asks all hosts at once, and takes the primary; of two the one that was promoted last.

    Args:
      address: of the store.
      known_timeline: the highest that this server has seen; 0 for none.

    Raises:
      StoreAwayError: there is none for now.
      StoreStartError: PostgreSQL lets nobody in by this address.
    """
    asked = {asyncio.create_task(_ask(host)): host for host in address.hosts}
    found: list[Primary] = []
    whys: dict[str, str] = {}
    refused = ""
    pending = set(asked)
    while pending:
        is_newer = any(primary.timeline > known_timeline > 0 for primary in found)
        patience_s = _OTHERS_OF_A_NEWER_S if is_newer else _OTHERS_S
        done, pending = await asyncio.wait(
            pending,
            timeout=patience_s if found else None,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not done:
            break
        for task in done:
            try:
                found.append(task.result())
            except TimeoutError:
                whys[asked[task]] = f"no answer within {_CONNECT_S:g} s"
            except Exception as error:  # noqa: BLE001 - said, where no other host is better.
                whys[asked[task]] = refusals.words(error)
                if _is_refusal(error):
                    refused = f"{place(asked[task])}: {whys[asked[task]]}"
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    found.sort(key=lambda primary: primary.timeline)
    for stale in found[:-1]:
        stale.connection.terminate()
    if found:
        return found[-1]
    if refused:
        raise StorePermissionError(f"{address}: cannot connect ({refused.rstrip('.')}).")
    said = "; ".join(f"{place(host)}: {whys[host]}" for host in address.hosts if host in whys)
    raise StoreAwayError(f"{address}: no primary answers ({said}).")


async def require_sound(
    address: Address, primary: Primary, wanted: Level | None, known_timeline: int, limit_s: float
) -> Identity:
    """Makes sure that a primary is the store's, and set up for what the store promises.

    Args:
      address: of the store.
      primary: as `find` found it.
      wanted: the durability that was asked for; None for what the store keeps.
      known_timeline: the highest that this server has seen.
      limit_s: how long its commit may take.

    Raises:
      StoreStartError: it is not; the class says why.
      StoreDamagedError: its own description is damaged.
      StoreAwayError: it is not for now.
    """
    if primary.timeline < known_timeline:
        raise StoreAwayError(
            f"{address}: the primary {place(primary.host)} is on timeline {primary.timeline}, and "
            f"the store was on {known_timeline}: it is an old primary that came back; stop it, or "
            "make it a standby. If the store was restored or moved, restart this server."
        )
    connection = primary.connection
    schema.require(address, await schema.find(connection))
    identity = await Identity.read(address, connection)
    level = identity.durability
    if wanted not in (None, level):
        raise OtherDurabilityError(
            f"{address}: has durability {level}, got {wanted}; ask for {level}, or run "
            f"'tickcell store durability --store {address} {wanted}'."
        )
    await connection.execute(f"SET synchronous_commit = {levels.synchronous_commit(level)}")
    await levels.require(address, connection, level)
    if level == "replicated":
        standbys = levels.standbys(await connection.fetch(levels.STANDBYS))
        if not standbys.synchronous:
            raise levels.lacks_standby(address, standbys)
    await _prove(address, primary, limit_s)
    return identity


async def _prove(address: Address, primary: Primary, limit_s: float) -> None:
    connection = primary.connection
    proving = asyncio.ensure_future(connection.execute(_PROVE, primary.timeline))
    # It is not cancelled: see `link`.
    await asyncio.wait([proving], timeout=limit_s)
    if not proving.done():
        connection.terminate()
        with contextlib.suppress(asyncpg.PostgresError, *refusals.BREAKS):
            await proving
        raise StoreAwayError(
            f"{address}: a commit has not finished for {limit_s:g} s; check the "
            "primary's disk and its standbys."
        )
    proving.result()


def _is_refusal(error: Exception) -> bool:
    """Says whether waiting does not mend it."""
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLCertVerificationError):
        # Of the handshake, such as a server that is stopped in it; else of a file's content.
        return error.library not in (None, "SSL")
    return isinstance(error, _REFUSED)


async def _ask(host: str) -> Primary:
    connection = await connect(host, None)
    try:
        timeline = await asyncio.wait_for(connection.fetchval(_TIMELINE), _CONNECT_S)
        if timeline is None:
            raise StoreAwayError("is a standby")
    except BaseException:
        connection.terminate()
        raise
    return Primary(host, connection, timeline)


def place(host: str) -> str:
    """Returns host and port of an address."""
    return host.partition("://")[2].partition("/")[0].rpartition("@")[2]

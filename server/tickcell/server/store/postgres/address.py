"""The address of a store in PostgreSQL, as libpq writes it; several hosts are one store.

postgresql://tickcell@db1:5432,db2:5432/tickcell?sslmode=verify-full&passfile=/run/pgpass
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from tickcell.server.store.errors import NotAStoreError

SCHEMES = ("postgresql", "postgres")


class Address(NamedTuple):
    """Where a store is.

    Attributes:
      text: as it was given; it holds no password.
      hosts: the address of each of its servers alone.
    """

    text: str
    hosts: tuple[str, ...]

    def __str__(self) -> str:
        return self.text


def is_address(store: object) -> bool:
    """Says whether a store is named by an address, and not by a directory."""
    return isinstance(store, str) and store.partition("://")[0] in SCHEMES


def parse(text: str) -> Address:
    """Reads an address.

    Raises:
      NotAStoreError: it is none, or holds a password.
    """
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        raise NotAStoreError(
            f"{text}: is not the address of a PostgreSQL; expected postgresql://USER@HOST/DATABASE."
        )
    user, at, hosts = parts.netloc.rpartition("@")
    query = parse_qsl(parts.query, keep_blank_values=True)
    if ":" in user or any(name == "password" for name, _ in query):
        # Every user of the machine reads the commands that run on it.
        raise NotAStoreError(
            f"{parts.scheme}://{hosts}{parts.path}: the address holds a password, which every user "
            "of this machine can read; put it into a password file (passfile=FILE in the address, "
            "PGPASSFILE, or ~/.pgpass) or into PGPASSWORD."
        )
    if any(name in ("host", "port") for name, _ in query):
        raise NotAStoreError(
            f"{text}: names its hosts behind the '?'; write them before the database, as "
            "postgresql://USER@HOST1:PORT,HOST2:PORT/DATABASE."
        )
    each = tuple(
        urlunsplit((parts.scheme, f"{user}{at}{host}", parts.path, _query(query), ""))
        for host in hosts.split(",")
    )
    return Address(text, each)


def _query(query: list[tuple[str, str]]) -> str:
    return urlencode(query, quote_via=quote)

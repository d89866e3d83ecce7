"""The address of a store in PostgreSQL, as libpq writes it; several hosts are one store.

postgresql://tickcell@db1:5432,db2:5432/tickcell?sslmode=verify-full&passfile=/run/pgpass
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from tickcell.server.store.errors import NotAStoreError, StorePermissionError

SCHEMES = ("postgresql", "postgres")

# Parameters that name a file; of the first kind the driver passes over what it does not like.
_SECRETS = ("passfile",)
_FILES = (*_SECRETS, "sslrootcert", "sslcrl", "sslcert", "sslkey")


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
            f"{parts.scheme}://{hosts}{parts.path}: the address has a password, which every user "
            "of this machine can read; put it into a password file (passfile=FILE in the address, "
            "PGPASSFILE, or ~/.pgpass) or into PGPASSWORD."
        )
    if any(name in ("host", "port") for name, _ in query):
        raise NotAStoreError(
            f"{text}: names its hosts after the '?'; write them before the database, as "
            "postgresql://USER@HOST1:PORT,HOST2:PORT/DATABASE."
        )
    for host in hosts.split(","):
        _require_host(text, host)
    each = tuple(
        urlunsplit((parts.scheme, f"{user}{at}{host}", parts.path, _query(query), ""))
        for host in hosts.split(",")
    )
    return Address(text, each)


def require_files(address: Address) -> None:
    """Makes sure that the files which an address names can be read.

    Raises:
      StorePermissionError: one cannot, or others may read the passwords in it.
    """
    for name, value in parse_qsl(urlsplit(address.text).query):
        if name not in _FILES:
            continue
        path = Path(value)
        try:
            with path.open("rb"):
                mode = path.stat().st_mode
        except OSError as error:
            raise StorePermissionError(
                f"{address}: cannot read {name} {path} ({error.strerror}); name a file that this "
                "user may read."
            ) from error
        if name in _SECRETS and mode & 0o077:
            raise StorePermissionError(
                f"{address}: users other than its owner may use {name} {path}; run "
                f"'chmod 600 {path}'."
            )


def _require_host(text: str, host: str) -> None:
    parts = urlsplit(f"//{host}")
    with contextlib.suppress(ValueError):
        if parts.hostname and parts.port != 0:
            return
    raise NotAStoreError(
        f"{text}: got {host!r} for a host, expected HOST or HOST:PORT, as in "
        "postgresql://USER@HOST1:PORT,HOST2:PORT/DATABASE."
    )


def _query(query: list[tuple[str, str]]) -> str:
    return urlencode(query, quote_via=quote)

"""Who may in: TLS, client certificates and password files, against a PostgreSQL that insists."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from deploy.cluster import postgres
from deploy.cluster.postgres import Postgres

from databases import Databases
from doubles.authority import Authority, Certified
from server.serve_process import complaint
from server.test_postgres_commits import opened
from server.test_postgres_opening import refusal
from tickcell.server.store import StorePermissionError
from tickcell.server.store.postgres import administration

# Over TLS alone: the one user by a certificate, everybody else by a password.
_ACCESS = """
hostssl all robot all cert
hostssl all all all scram-sha-256
"""


class Guarded(NamedTuple):
    """A PostgreSQL that lets nobody in without TLS, and files for those who want to come in."""

    server: Postgres
    files: Path

    def url(self, user: str = postgres.USER, host: str = "localhost", **names: str) -> str:
        """Returns an address; each further parameter names a file of ours, or is none."""
        port = self.server.address.rpartition(":")[2]
        files = [f"{what}={self.files / name}" for what, name in names.items()]
        query = "&".join(["sslmode=verify-full", *files])
        return f"postgresql://{user}@{host}:{port}/{postgres.DATABASE}?{query}"


@pytest.fixture(scope="module")
def guarded(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    files = tmp_path_factory.mktemp("files")
    ours, other = Authority(), Authority("another authority")
    (files / "ours.pem").write_bytes(ours.certificate)
    (files / "other.pem").write_bytes(other.certificate)
    ours.client("robot").write(files / "robot.pem", files / "robot.key")
    for password in ("right", "wrong", "open"):
        (files / password).write_text(f"*:*:*:*:{password.replace('open', 'right')}\n")
        (files / password).chmod(0o600)
    (files / "open").chmod(0o644)
    with databases.alone() as server:
        server.query(f"ALTER USER {postgres.USER} PASSWORD 'right'; CREATE USER robot SUPERUSER")
        guard(server, ours.server(), ours)
        yield Guarded(server, files)


def guard(server: Postgres, own: Certified, authority: Authority) -> None:
    """Lets nobody in any more who has no password or certificate, or does not use TLS."""
    data = Path(server.query("SHOW data_directory"))
    own.write(data / "server.crt", data / "server.key")
    (data / "root.crt").write_bytes(authority.certificate)
    for name in ("server.crt", "server.key", "root.crt"):
        shutil.chown(data / name, data.stat().st_uid, data.stat().st_gid)
        (data / name).chmod(0o600)
    (data / "pg_hba.conf").write_text(_ACCESS)
    server.settings |= {
        "ssl": "on",
        "ssl_cert_file": "'server.crt'",
        "ssl_key_file": "'server.key'",
        "ssl_ca_file": "'root.crt'",
    }
    server.stop()
    server.start()


def test_password_file_and_client_certificate_open_the_store(guarded: Guarded) -> None:
    async def steps(address: str) -> str:
        async with opened(address) as store:
            await store.upkeep()
            return store.id

    by_password = guarded.url(sslrootcert="ours.pem", passfile="right")
    by_certificate = guarded.url(
        "robot", sslrootcert="ours.pem", sslcert="robot.pem", sslkey="robot.key"
    )
    assert asyncio.run(steps(by_password)) == asyncio.run(steps(by_certificate))
    assert dict(administration.inspect(by_certificate))["store"] == by_certificate


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"sslrootcert": "ours.pem", "passfile": "wrong"}, "password authentication failed"),
        ({"sslrootcert": "other.pem", "passfile": "right"}, "certificate verify failed"),
    ],
)
def test_wrong_password_and_untrusted_certificate_end_a_start(
    guarded: Guarded, files: dict[str, str], said: str
) -> None:
    url = guarded.url(**files)
    line = complaint("--store", url, "--listen", "localhost:0")
    assert line.startswith(f"{url}: cannot connect (localhost:")
    assert said in line


@pytest.mark.parametrize(
    ("user", "host", "files", "said"),
    [
        ("tickcell", "127.0.0.1", {"passfile": "right"}, "IP address mismatch"),
        ("tickcell", "localhost", {"passfile": "open"}, "run 'chmod 600 "),
        ("tickcell", "localhost", {"passfile": "none"}, "cannot read passfile"),
        ("tickcell", "localhost", {"passfile": "right", "sslcrl": "none"}, "cannot read sslcrl"),
        ("robot", "localhost", {}, "requires a valid client certificate"),
        ("nobody", "localhost", {"passfile": "right"}, "password authentication failed"),
        ("tickcell", "localhost", {"passfile": "right", "sslroot": "x"}, "unrecognized conf"),
    ],
)
def test_way_in_that_waiting_does_not_mend_is_refused(
    guarded: Guarded, user: str, host: str, files: dict[str, str], said: str
) -> None:
    error = refusal(guarded.url(user, host, **{"sslrootcert": "ours.pem", **files}))
    assert isinstance(error, StorePermissionError)
    assert said in str(error)


def test_file_that_holds_no_certificate_is_refused(guarded: Guarded) -> None:
    error = refusal(guarded.url(sslrootcert="right", passfile="right"))
    assert isinstance(error, StorePermissionError)
    assert "no certificate" in str(error)

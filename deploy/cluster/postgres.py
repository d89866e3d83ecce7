"""One PostgreSQL server in a directory, set up for tickcell; see `replication` for several.

    with postgres.temporary() as server:
        connect(server.url)

PostgreSQL refuses to run as root. So root runs it as the user `postgres`, else `nobody`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.cluster import process, programs

if TYPE_CHECKING:
    from typing import Self

USER = DATABASE = "tickcell"

# What tickcell needs is docs/scaling.md's to explain. What is here for the one machine: how
# fast a server is found out that stands still, and that all of it lies in its directory.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "max_wal_senders": "8",
    # So much is kept for a standby that was away; one that needs more is copied anew.
    "wal_keep_size": "256MB",
    "max_wal_size": "1GB",
    "wal_sender_timeout": "5s",
    "wal_receiver_timeout": "5s",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "200ms",
    "tcp_user_timeout": "5s",
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "dynamic_shared_memory_type": "mmap",
    "shared_buffers": "64MB",
    "log_line_prefix": "%m [%p] ",
}


class Postgres:
    """A PostgreSQL server: made, started, killed and started again.

    Its files are in `directory`, which the user that runs it must be able to reach.

    Attributes:
      name: what it is called, by itself and by those that it replicates to.
      address: `HOST:PORT`.
      settings: of its configuration, beside what it has by itself; counted at the next
        `start` or `reload`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "postgres",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Prepares a server; see `initialize` and `copy`.

        Raises:
          MissingError: PostgreSQL is not installed.
        """
        self.name = name
        self.settings = dict(settings or {})
        self._bin = programs.postgresql()
        self._user = _other_user()
        self._data = directory / "data"
        # Whether its files were copied, and not used since.
        self._is_copied = False
        self._port = process.free_port()
        self.address = f"127.0.0.1:{self._port}"
        directory.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            shutil.chown(directory, self._user)
        command = [str(self._bin / "postgres"), "-D", str(self._data)]
        self._process = process.Process(name, command, directory / "log", user=self._user)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where tickcell's store would be."""
        return url([self])

    @property
    def pid(self) -> int:
        """The id of its first process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._process.is_running

    def initialize(self) -> None:
        """Makes an empty server with the database of tickcell; it is stopped then.

        Raises:
          StartError: it cannot be made.
        """
        self._run(
            *("initdb", "--pgdata", str(self._data), "--username", USER),
            # Whoever is on this machine may connect, and nobody else.
            *("--auth", "trust", "--encoding", "UTF8", "--no-sync", "--no-instructions"),
            # Megabytes; by default 16, which is much to make and copy for so small a database.
            *("--wal-segsize", "1"),
        )
        # Before there is anybody to wait for.
        self._configure({"synchronous_standby_names": "''", "fsync": "off"})
        self._start()
        self.query(f"CREATE DATABASE {DATABASE}", database="postgres")
        self.stop()

    def copy(self, primary: Postgres) -> None:
        """Makes it a standby of another server; it is stopped then.

        Raises:
          StartError: it cannot be made.
        """
        self._give_back_memory()
        shutil.rmtree(self._data, ignore_errors=True)
        if primary.is_running:
            primary.back_up(self._data)
            self._is_copied = True
        else:
            command = ["cp", "--archive", str(primary._data), str(self._data)]
            process.run(command, user=self._user)
        self.follow(primary)

    def back_up(self, backup: Path) -> None:
        """Copies its files while it runs, with `pg_basebackup`, into a directory that is not there.

        Raises:
          StartError: it failed.
        """
        self._run(
            *("pg_basebackup", "--pgdata", str(backup), "--dbname", _conninfo(self)),
            *("--checkpoint", "fast", "--no-sync"),
        )

    def put_back(self, backup: Path) -> None:
        """Takes a backup's files in place of its own, and starts from there.

        Raises:
          StartError: it does not start.
        """
        if self.is_running:
            self.kill()
        self._give_back_memory()
        shutil.rmtree(self._data)
        process.run(["cp", "--archive", str(backup), str(self._data)], user=self._user)
        self._is_copied = True
        self.start()

    def follow(self, primary: Postgres) -> None:
        """Makes it a standby of the other server; a running one goes over to it at once."""
        self.settings["primary_conninfo"] = f"'{_conninfo(primary)}'"
        (self._data / "standby.signal").touch()
        if self.is_running:
            self.reload()

    def start(self) -> None:
        """Starts it, and waits until it can be asked.

        Raises:
          StartError: it does not start.
        """
        if self._is_copied:
            # Else it would begin by syncing each of some thousand files.
            self._configure({**self.settings, "fsync": "off"})
            self._start()
            self._is_copied = False
            self.reload()
        else:
            self._configure(self.settings)
            self._start()

    def reload(self) -> None:
        """Lets it read its settings anew."""
        self._configure(self.settings)
        self._process.send(signal.SIGHUP)

    def stop(self) -> None:
        """Ends its connections and stops it in good order."""
        self._process.stop(signal.SIGINT)

    def kill(self) -> None:
        """Kills all of its processes at once, as a machine that loses its power does."""
        self._process.kill()

    def pause(self) -> None:
        """Keeps all of its processes from running until `resume`."""
        self._process.pause()

    def resume(self) -> None:
        """Lets them run on."""
        self._process.resume()

    def promote(self) -> None:
        """Makes a standby a primary, and waits until it is one.

        Raises:
          StartError: it does not become one.
        """
        self.query(f"SELECT pg_promote(true, {process.PATIENCE_S:.0f})")

    def query(self, statement: str, *, database: str = DATABASE) -> str:
        """Runs a statement; returns its rows, each on a line, with `|` between columns.

        Raises:
          StartError: it failed, or nobody answers.
        """
        host, _, port = self.address.rpartition(":")
        return self._run(
            *("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--quiet"),
            *("--host", host, "--port", port, "--username", USER, "--dbname", database),
            *("--set", "ON_ERROR_STOP=1", "--command", statement),
        ).strip()

    def close(self) -> None:
        """Ends it for good: nothing of it is left beside its directory."""
        if self.is_running:
            self._process.resume()
            # Its files are of no use any more, so they need not be in order.
            self._process.stop(signal.SIGQUIT)
        self._give_back_memory()

    def _give_back_memory(self) -> None:
        """Removes what a server that was killed leaves behind, and removes itself at a start."""
        lines = self._pid_file()
        # Key and id of its System V shared memory.
        if len(lines) > 6 and lines[6].strip():
            process.run(["ipcrm", "--shmem-id", lines[6].split()[1]])

    def _configure(self, settings: Mapping[str, str]) -> None:
        own = {
            "port": str(self._port),
            "unix_socket_directories": "''",
            "cluster_name": f"'{self.name}'",
        }
        text = "".join(f"{name} = {value}\n" for name, value in {**own, **settings}.items())
        defaults = "".join(f"{name} = '{value}'\n" for name, value in _SETTINGS.items())
        path = self._data / "postgresql.conf"
        path.write_text(defaults + text)
        if self._user is not None:
            shutil.chown(path, self._user)

    def _start(self) -> None:
        self._process.start(self._is_ready)

    def _is_ready(self) -> bool:
        """Whether the file of its first process says that it accepts connections."""
        lines = self._pid_file()
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _pid_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _run(self, program: str, *arguments: str) -> str:
        return process.run([str(self._bin / program), *arguments], user=self._user)


def url(servers: Sequence[Postgres]) -> str:
    """Returns the URL of a store on whichever of the servers is the primary."""
    hosts = ",".join(server.address for server in servers)
    return f"postgresql://{USER}@{hosts}/{DATABASE}"


@contextlib.contextmanager
def temporary(settings: Mapping[str, str] | None = None) -> Iterator[Postgres]:
    """Runs a server without standbys in a directory of its own, which is gone with it.

    Args:
      settings: of its configuration, such as `{"fsync": "off"}`.
    """
    with directory() as path:
        server = Postgres(path, settings=settings)
        server.initialize()
        with server:
            yield server


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """Makes a directory that the user who runs PostgreSQL can reach, and that is gone after."""
    with tempfile.TemporaryDirectory(prefix="tickcell-") as path:
        # Who knows a name within may go there.
        Path(path).chmod(0o711)
        yield Path(path)


def _conninfo(primary: Postgres) -> str:
    host, _, port = primary.address.rpartition(":")
    # What it is called comes from its own `cluster_name`.
    return f"host={host} port={port} user={USER} dbname=postgres connect_timeout=5"


def _other_user() -> str | None:
    """Returns whom root runs the server as; None for everybody else."""
    if os.geteuid() != 0:
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in users)

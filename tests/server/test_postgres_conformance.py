"""A server on PostgreSQL does what every server must do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from databases import Databases
from server.serve_process import ServeProcess


@pytest.mark.parametrize(
    "areas",
    [("steps", "streams"), pytest.param((), marks=pytest.mark.slow)],
    ids=["steps", "all"],
)
def test_server_on_postgresql_keeps_the_contract(
    databases: Databases, areas: tuple[str, ...]
) -> None:
    options = [f"--area={area}" for area in areas]
    with ServeProcess("--store", databases.new(), "--listen", "localhost:0") as process:
        done = subprocess.run(
            [sys.executable, "-m", "tickcell.cli", "conform", *options, process.address],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr

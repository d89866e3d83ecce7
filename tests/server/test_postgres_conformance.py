"""A server on PostgreSQL does what every server must do."""

from __future__ import annotations

import subprocess
import sys

from databases import Databases
from server.serve_process import ServeProcess


def test_server_on_postgresql_keeps_the_whole_contract(databases: Databases) -> None:
    with ServeProcess("--store", databases.new(), "--listen", "localhost:0") as process:
        done = subprocess.run(
            [sys.executable, "-m", "tickcell.cli", "conform", process.address],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr

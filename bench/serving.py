"""The server that is measured: tickcell's with its defaults, and the echo beside.

Run as a program it serves on a free port, which it prints, until its standard input
ends: so it does not outlive the benchmark.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from bench import echo
from tickcell.model import Bundle
from tickcell.server.catalogue import Catalogue, ServedModel
from tickcell.server.config import Config
from tickcell.server.engine import Engine
from tickcell.server.health import Health
from tickcell.server.observer import Observer
from tickcell.server.server import Server
from tickcell.server.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Runs the server in a process of its own, on a new store; yields its address."""
    command = [sys.executable, "-m", "bench.serving"]
    with (
        tempfile.TemporaryDirectory(prefix="tickcell-bench-") as directory,
        subprocess.Popen(
            [*command, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError("the server did not start; it says why above.")
        yield address
        process.stdin.close()


async def _serve(directory: pathlib.Path) -> None:
    config = Config(listen="localhost:0", store=directory)
    catalogue = Catalogue([ServedModel.load(Bundle.load())])
    store = SqliteStore.open(directory)
    health = Health()
    engine = Engine(config, catalogue, store, Observer(health))
    server = Server(config, engine, health, [echo.handler()])
    sys.stdout.write(await server.start() + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop()
    store.close()


if __name__ == "__main__":
    asyncio.run(_serve(pathlib.Path(sys.argv[1])))

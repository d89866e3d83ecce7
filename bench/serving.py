"""The server that is measured: tickcell's with its defaults, and the echo beside.

Run as a program it serves on a free port, which it prints, until its standard input
ends: so it does not outlive the benchmark.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

import grpc

from bench import echo
from tickcell.cli import event_engine
from tickcell.model import Bundle
from tickcell.model.bundle import SHIPPED
from tickcell.server import allocation, polling, process
from tickcell.server.catalogue import Catalogue, ServedModel
from tickcell.server.config import Config, is_address
from tickcell.server.engine import Engine
from tickcell.server.flight.recorder import Recorder
from tickcell.server.health import Health
from tickcell.server.observer import Observer
from tickcell.server.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator


# The source roots of the namespace, in a checkout.
_ROOTS = ("proto", "server", "client", "model")

# This checkout.
HERE = pathlib.Path(__file__).resolve().parents[1]


class Serving(NamedTuple):
    """A server in a process of its own."""

    address: str
    pid: int

    def cpu_ns(self) -> int:
        """Returns the processor time that its threads and its children's have used so far."""
        found = 0
        for path in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            # A thread that has just ended is none of those that serve.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += int((path / "schedstat").read_text().split()[0])
                children = (path / "children").read_text().split()
                found += sum(Serving(self.address, int(child)).cpu_ns() for child in children)
        return found


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Runs this checkout's server on a new store; yields its address."""
    with serving() as server:
        yield server.address


@contextlib.contextmanager
def serving(
    checkout: pathlib.Path = HERE,
    store: str | None = None,
    bundle: pathlib.Path = SHIPPED,
    durability: str | None = None,
    record: str = "",
    busy_poll_us: float = 0.0,
    *,
    leaves_off_engine: bool = True,
) -> Iterator[Serving]:
    """Runs the server of a checkout in a process of its own.

    Args:
      checkout: whose server to run.
      store: the address of a store in PostgreSQL; None for a new one in a directory.
      bundle: what to serve.
      durability: what an acknowledged step survives; None for the default.
      record: the directory of its flight recordings; "" for none.
      busy_poll_us: for how long it looks for the next event before it sleeps.
      leaves_off_engine: whether gRPC's event engine is left off, as in a server by the command.
    """
    roots = [str(checkout / root) for root in _ROOTS]
    switches = event_engine.switches_of(grpc.__version__) if leaves_off_engine else ""
    with (
        tempfile.TemporaryDirectory(prefix="tickcell-bench-") as directory,
        subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.serving", store or directory, str(bundle)),
                *(durability or "", record, str(busy_poll_us)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=checkout,
            env={"GRPC_EXPERIMENTS": switches, **os.environ, "PYTHONPATH": os.pathsep.join(roots)},
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        if not address:
            raise RuntimeError("the server did not start; it says why above.")
        yield Serving(address, child.pid)
        child.stdin.close()


async def _serve(store: str, bundle: str, durability: str, record: str) -> None:
    allocation.keep_freed()
    config = Config(
        listen="localhost:0",
        store=store if is_address(store) else pathlib.Path(store),
        durability=durability or None,  # type: ignore[arg-type]  # `Config` looks.
        record=pathlib.Path(record) if record else None,
    )
    catalogue = Catalogue([ServedModel.load(Bundle.load(bundle))])
    health = Health()
    async with process.open_store(config) as opened:
        observer = Observer(health)
        observer.flight = Recorder.of(config, opened.id)
        engine = Engine(config, catalogue, opened, observer)
        server = Server(config, engine, health, [echo.handler()])
        address = await server.start()
        process.collect_seldom()
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await server.stop()
        if observer.flight is not None:
            observer.flight.close()


if __name__ == "__main__":
    *_arguments, _busy_poll_us = sys.argv[1:]
    with asyncio.Runner(loop_factory=lambda: polling.loop(float(_busy_poll_us))) as runner:
        runner.run(_serve(*_arguments))

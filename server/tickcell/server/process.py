"""One server process: start, banner, signals, end."""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import logging
import signal
import sys
from typing import TYPE_CHECKING

from tickcell.model import Bundle
from tickcell.model.bundle import SHIPPED
from tickcell.server import listening, store
from tickcell.server.catalogue import Catalogue, ServedModel
from tickcell.server.clock import SteadyClock
from tickcell.server.server import Server

if TYPE_CHECKING:
    from tickcell.server.config import Config

_log = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
      BundleError, CatalogueError: a bundle cannot be served.
      StoreError: the store cannot be opened.
      ListenError: the address cannot be listened on.
      MissingExtraError: the extra "server" is not installed.
    """
    catalogue = Catalogue(
        ServedModel.load(Bundle.load(path)) for path in config.bundles or (SHIPPED,)
    )
    opened = _open_store(config)
    try:
        asyncio.run(_serve(config, catalogue, opened))
    finally:
        opened.close()


def _open_store(config: Config) -> store.EmbeddedStore:
    if config.store is None or config.durability == "none":
        return store.MemoryStore()
    return store.SqliteStore.open(
        config.store,
        durability=config.durability,
        allow_network_filesystem=config.allow_network_filesystem,
    )


async def _serve(config: Config, catalogue: Catalogue, opened: store.EmbeddedStore) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = Server(config, catalogue, opened, SteadyClock())
    address = await server.start()
    # What lives as long as the process is not looked through again: a full collection
    # takes longer than a tick at 50 Hz (25 ms here, 2 us after this).
    gc.freeze()
    sys.stdout.write(_banner(config, catalogue, opened, address))
    sys.stdout.flush()
    await stopping.wait()
    _log.info("stopping")
    await server.stop()
    _log.info("stopped")


def _banner(config: Config, catalogue: Catalogue, opened: store.EmbeddedStore, address: str) -> str:
    """Says what is served, where, on which store, and the one line to try it."""
    lines = [f"tickcell {importlib.metadata.version('tickcell')} serving on {address}"]
    for model in catalogue:
        sensors = model.cell.interface.sensor_count
        lines.append(
            f"  model  {model.card.name} {model.card.version}: {sensors} sensors at "
            f"{model.card.rate_hz:g} Hz, fingerprint {model.fingerprint[:12]}, numerics "
            f"{model.numerics.hex()}"
        )
    where = "in memory: a restart loses every session" if config.store is None else config.store
    lines.append(
        f"  store  {where}, {opened.counts().live} sessions, durability {config.durability}"
    )
    if opened.note:
        lines.append(f"  note   {opened.note}")
    lines.append(f"  try    tickcell replay --server {listening.as_called(address)}")
    return "\n".join(lines) + "\n"

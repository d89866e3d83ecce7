"""One server process: start, banner, signals, end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib.metadata
import logging
import signal
import sys
from typing import TYPE_CHECKING

from tickcell.model import Bundle, extras
from tickcell.model.bundle import SHIPPED
from tickcell.model.extras import MissingExtraError
from tickcell.server import allocation, listening, polling, store
from tickcell.server import config as config_module
from tickcell.server.access import Access
from tickcell.server.catalogue import Catalogue, ServedModel
from tickcell.server.engine import Engine
from tickcell.server.errors import StoreAway
from tickcell.server.flight.recorder import Recorder
from tickcell.server.monitoring.monitor import Monitor
from tickcell.server.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tickcell.server.config import Config
    from tickcell.server.observer import Observer
    from tickcell.server.workers.link import Link

# Made and not yet dropped since the last collection, until the next one; 700 by default.
_COLLECTED_OBJECTS = 10_000

_log = logging.getLogger(__name__)


def run(config: Config, link: Link | None = None) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
      config: of the server.
      link: to the parent of this worker, which says what there is to say; None for none.

    Raises:
      BundleError, CatalogueError: a bundle cannot be served.
      RepositoryError: the directory of models cannot be read.
      StoreError: the store cannot be opened.
      ListenError: an address cannot be listened on, or not in plain text.
      FileError: a certificate, or the file of tokens or callers, cannot be used.
      RecorderError: no flight recording can be written.
      MissingExtraError: the extra "server" is not installed, or "trace" or "record" where it is
        needed.
    """
    allocation.keep_freed()
    bundles = config.bundles or (() if config.models else (SHIPPED,))
    # Imported before anybody is served, since to import it while the loop runs would hold it up.
    extras.load("ai_edge_litert.interpreter", extra="server")
    catalogue = Catalogue(ServedModel.load(Bundle.load(path)) for path in bundles)
    access = Access.of(config)
    with (
        contextlib.closing(Monitor(config, is_worker=link is not None)) as monitor,
        asyncio.Runner(loop_factory=functools.partial(polling.loop, config.busy_poll_us)) as runner,
    ):
        runner.run(_serve(config, catalogue, access, monitor, link))


@contextlib.asynccontextmanager
async def open_store(config: Config) -> AsyncIterator[store.EmbeddedStore | store.NetworkStore]:
    """Opens the store that a configuration names, and closes it.

    A store over a network that is away for now is opened all the same: a server that
    started anew again and again would be there later, and say less. What is wrong with it
    for good is raised.

    Raises:
      StoreError: it cannot be opened.
      MissingExtraError: the extra "postgres" is not installed, and is needed.
    """
    if config_module.is_address(config.store):
        extras.load("asyncpg", extra="postgres")
        from tickcell.server.store.postgres.postgres_store import PostgresStore

        kept = PostgresStore(str(config.store), durability=config.durability)  # type: ignore[arg-type]
        try:
            await kept.open()
            yield kept
        finally:
            await kept.close()
        return
    with contextlib.closing(_embedded(config)) as embedded:
        yield embedded


@contextlib.contextmanager
def _recorded(config: Config, observer: Observer, store_id: str) -> Iterator[None]:
    """Has an observer pass on what it hears to the recorder that a configuration asks for."""
    recorder = Recorder.of(config, store_id)
    if recorder is None:
        yield
        return
    with contextlib.closing(recorder):
        observer.flight = recorder
        yield


def _embedded(config: Config) -> store.EmbeddedStore:
    if config.store is None or config.durability == "none":
        return store.MemoryStore()
    return store.SqliteStore.open(
        config.store,
        durability=config.durability,  # type: ignore[arg-type] # `Config` has looked.
        allow_network_filesystem=config.allow_network_filesystem,
    )


async def _serve(
    config: Config,
    catalogue: Catalogue,
    access: Access,
    monitor: Monitor,
    link: Link | None,
) -> None:
    async with open_store(config) as kept:
        with _recorded(config, monitor.observer, kept.id):
            await _serve_store(config, catalogue, kept, access, monitor, link)


async def _serve_store(
    config: Config,
    catalogue: Catalogue,
    kept: store.EmbeddedStore | store.NetworkStore,
    access: Access,
    monitor: Monitor,
    link: Link | None,
) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    engine = Engine(config, catalogue, kept, monitor.observer, quotas=access.quotas)
    server = Server(config, engine, monitor.observer.health, access=access)
    address = await server.start()
    monitor.start(address)
    collect_seldom()
    watched = monitor.address if link is None else config.metrics or ""
    where = await _store_in_words(config, kept, engine)
    banner = _banner(config, catalogue, where, access, address, watched, server.lacks_oip)
    if link is None:
        sys.stdout.write(banner)
        sys.stdout.flush()
    else:
        link.serves(banner, monitor.report)
    await stopping.wait()
    _log.info("stopping")
    monitor.stop()
    await server.stop()
    if link is not None:
        link.stopped()
    _log.info("stopped")


def collect_seldom() -> None:
    """Has the garbage collector look at little, and seldom; called once the server is made.

    What lives as long as the process is not looked through again: a full collection takes
    longer than a tick at 50 Hz (25 ms here, 2 us after this). And what is in flight for 256
    sessions is no garbage, and less than is waited for from now on: some 0.5 ms of work.
    """
    gc.freeze()
    gc.set_threshold(_COLLECTED_OBJECTS)


async def _store_in_words(
    config: Config, kept: store.EmbeddedStore | store.NetworkStore, engine: Engine
) -> list[str]:
    """Returns the banner's lines on the store."""
    where = "in memory: a restart loses every session" if config.store is None else config.store
    if isinstance(kept, store.NetworkStore):
        durability = kept.durability or "as the store keeps it"
    else:
        durability = "power-loss" if kept.syncs else config.durability or "process-crash"
    try:
        holds = f"{(await engine.counts()).live} sessions"
    except StoreAway:
        holds = "away"
    line = f"  store  {where}, {holds}, durability {durability}"
    return [line, f"  note   {kept.note}"] if kept.note else [line]


def _banner(
    config: Config,
    catalogue: Catalogue,
    store_lines: list[str],
    access: Access,
    address: str,
    metrics: str,
    lacks_oip: MissingExtraError | None,
) -> str:
    """Says what is served, where, on which store, and the one line to try it."""
    lines = [f"tickcell {importlib.metadata.version('tickcell')} serving on {address}"]
    for model in catalogue:
        sensors = model.cell.interface.sensor_count
        lines.append(
            f"  model  {model.card.name} {model.card.version}: {sensors} sensors at "
            f"{model.card.rate_hz:g} Hz, fingerprint {model.fingerprint[:12]}, numerics "
            f"{model.numerics.hex()}"
        )
    if config.models is not None:
        lines.append(f"  models {config.models}, model control {config.control}")
    lines += store_lines
    if config.record is not None:
        lines.append(f"  record {config.record}, at most {config.record_limit_gb:g} GB")
    if config.workers > 1:
        lines.append(f"  shared by {config.workers} workers")
    if metrics:
        lines.append(f"  watch  http://{listening.as_called(metrics)}/metrics")
    if config.tls_certificate or config.tokens or config.insecure:
        lines.append(f"  calls  {access}")
    if lacks_oip is None and config.oip != "off":
        lines.append(f"  oip    served too; a sequence may be idle for {config.oip_idle_ttl_s:g} s")
    elif config.oip == "on":
        lines.append(f"  oip    not served: {lacks_oip}")
    flags = (" --tls" if config.tls_certificate else "") + (
        " --token-file FILE" if config.tokens else ""
    )
    lines.append(f"  try    tickcell replay --server {listening.as_called(address)}{flags}")
    return "\n".join(lines) + "\n"

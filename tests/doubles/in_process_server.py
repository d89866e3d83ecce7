"""The real server in a thread of the test's own process, with its parts chosen by the test."""

from __future__ import annotations

import asyncio
import atexit
import functools
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from tickcell.model import Card, Cell
from tickcell.model.card import Output
from tickcell.server.access import Access
from tickcell.server.catalogue import Catalogue, ServedModel
from tickcell.server.config import Config, Limits
from tickcell.server.engine import Engine
from tickcell.server.health import Health
from tickcell.server.monitoring.spans import Spans
from tickcell.server.observer import Observer
from tickcell.server.server import Server
from tickcell.server.store import EmbeddedStore, MemoryStore, NetworkStore

if TYPE_CHECKING:
    from typing import Self

_Result = TypeVar("_Result")

# Longer than anything here takes, so that a hang is a failure and not a night.
_PATIENCE_S = 60.0


def served(cell: Cell, name: str = "counting", version: str = "1") -> ServedModel:
    """Returns a cell as a model to serve, under a fingerprint that its name makes."""
    card = Card(
        name=name,
        version=version,
        rate_hz=50.0,
        outputs={
            head.name: Output("The number of the step shows.") for head in cell.interface.heads
        },
        warm_up_steps=0,
    )
    return ServedModel.of(card, cell, f"{name}-{version}".encode().hex().ljust(64, "0"))


class InProcessServer:
    """Serves until it is stopped.

    Attributes:
      address: where.
      observer: hears of what goes on in it.
      records: its store; the caller's, if it gave one, and then the caller's to close.
    """

    @property
    def services(self) -> dict[str, set[str]]:
        """The names of the methods that it serves, by service."""
        return {name: {*methods} for name, methods in self._server.services.items()}

    def __init__(
        self,
        models: Iterable[ServedModel],
        records: EmbeddedStore | NetworkStore | None = None,
        limits: Limits | None = None,
        spans: Spans | None = None,
        **options: Any,
    ) -> None:
        self._spans = spans
        self.records = MemoryStore() if records is None else records
        config = Config(
            listen=options.pop("listen", "localhost:0"),
            durability="none",
            models=options.pop("repository", None),
            limits=limits or Limits(),
            **options,
        )
        self.address = in_loop(functools.partial(self._start, config, Catalogue(models)))

    async def _start(self, config: Config, catalogue: Catalogue) -> str:
        health = Health()
        access = Access.of(config)
        self.observer = Observer(health, self._spans)
        engine = Engine(config, catalogue, self.records, self.observer, quotas=access.quotas)
        self._server = Server(config, engine, health, access=access)
        return await self._server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Drains and stops."""
        in_loop(self._server.stop)


def in_loop(function: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    """Awaits a coroutine in the loop in which all these servers run."""
    return asyncio.run_coroutine_threadsafe(function(), _loop()).result(_PATIENCE_S)


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    # One for all: grpc.aio has a single queue a process, which several loops would
    # wake each other for.
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="in-process servers", daemon=True)
    thread.start()

    def end() -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_PATIENCE_S)
        loop.close()

    atexit.register(end)
    return loop

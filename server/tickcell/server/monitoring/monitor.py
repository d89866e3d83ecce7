"""What watches over a process: the observer, the port for metrics and probes, traces, systemd."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tickcell.model import extras
from tickcell.server import listening
from tickcell.server.monitoring import systemd
from tickcell.server.monitoring.heartbeat import Heartbeat
from tickcell.server.observer import Observer
from tickcell.server.workers.link import Report

if TYPE_CHECKING:
    from tickcell.server.config import Config
    from tickcell.server.monitoring.http_port import HttpPort


class Monitor:
    """Watches over one server, as its configuration asks for.

    Attributes:
      observer: to be told by the server's engine.
    """

    def __init__(self, config: Config, *, is_worker: bool = False) -> None:
        """Takes the port; what comes there waits until `start`.

        Args:
          config: of the server.
          is_worker: whether a parent has the port, and asks for reports.

        Raises:
          ListenError: the address for metrics cannot be listened on, or not in plain text.
          MissingExtraError: traces are asked for, and the extra "trace" is not installed.
        """
        self._limits = config.limits
        self._spans = None
        if config.trace:
            extras.load("opentelemetry.exporter.otlp.proto.grpc", extra="trace")
            # Here, since a server without traces need not have the extra.
            from tickcell.server.monitoring.spans import Spans

            self._spans = Spans.sent()
        self.observer = Observer(spans=self._spans)
        self._heartbeat = Heartbeat()
        self._listeners = [] if is_worker else listening.listen_for_metrics(config)
        self._port: HttpPort | None = None
        self._beating: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """The `HOST:PORT` of metrics and probes; "" for none, and in a worker."""
        if not self._listeners:
            return ""
        return listening.name_of(self._listeners[0])

    def start(self, address: str) -> None:
        """Tells everybody, from now on, that the server serves on an address."""
        self._beating = asyncio.get_running_loop().create_task(self._heartbeat.beat())
        if self._listeners:
            # Here, since a server without the port needs neither.
            from tickcell.server.monitoring.http_port import HttpPort
            from tickcell.server.monitoring.metrics import Metrics
            from tickcell.server.monitoring.pages import pages

            metrics = Metrics(self.observer, self._limits)
            shown = pages(metrics, self.observer.health, self._heartbeat)
            self._port = HttpPort(self._listeners, shown)
        systemd.notify(f"READY=1\nSTATUS=serving on {address}")

    def report(self, metrics: bool) -> Report:
        """Tells how the server fares, from any thread; with metrics or without."""
        text = ""
        if metrics:
            from tickcell.server.monitoring.metrics import Metrics

            text = Metrics(self.observer, self._limits).text().decode()
        return Report(self._heartbeat.silent_s, self.observer.health.is_serving, text)

    def stop(self) -> None:
        """Tells the service manager that the server begins to drain; the probes see it."""
        systemd.notify("STOPPING=1\nSTATUS=draining")

    def close(self) -> None:
        """Gives the port back, and sends the last traces."""
        if self._port is not None:
            self._port.close()
        for listener in self._listeners:
            listener.close()
        if self._spans is not None:
            self._spans.close()

"""Envoy before the replicas, with the configuration that deploy/envoy has for everybody."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from deploy.cluster import answers, process, programs

_CONFIGURATION = Path(__file__).resolve().parents[1] / "envoy" / "envoy.yaml"
_LISTENER_PORT, _ADMIN_PORT = 50060, 9901


class Envoy(process.Process):
    """A running Envoy.

    Attributes:
      address: where clients call.
      admin: where it shows its counters.
    """

    def __init__(self, directory: Path, replicas: Sequence[str]) -> None:
        """Prepares it.

        Args:
          directory: for its configuration and its log.
          replicas: their addresses, `HOST:PORT` each.

        Raises:
          MissingError: it is not installed.
        """
        directory.mkdir()
        ports = {_LISTENER_PORT: process.free_port(), _ADMIN_PORT: process.free_port()}
        self.address = f"127.0.0.1:{ports[_LISTENER_PORT]}"
        self.admin = f"127.0.0.1:{ports[_ADMIN_PORT]}"
        text = _CONFIGURATION.read_text(encoding="utf-8")
        for documented, free in ports.items():
            text, count = re.subn(rf"port_value: {documented}\b", f"port_value: {free}", text)
            if count != 1:
                raise ValueError(f"{_CONFIGURATION} has port {documented} {count} times.")
        configuration = directory / "envoy.yaml"
        configuration.write_text(text, encoding="utf-8")
        # JSON is YAML.
        (directory / "replicas.yaml").write_text(json.dumps(_endpoints(replicas)))
        command = [
            *(str(programs.envoy()), "--config-path", str(configuration)),
            *("--concurrency", "1", "--log-level", "warning", "--disable-hot-restart"),
        ]
        super().__init__("envoy", command, directory / "log")

    def run(self) -> None:
        """Starts it, and waits until it listens.

        Raises:
          StartError: it does not start.
        """
        self.start(lambda: answers.is_ok(self.admin, "/ready"))


def _endpoints(replicas: Sequence[str]) -> dict[str, object]:
    """Returns what replicas.yaml says, for these replicas."""
    endpoints = []
    for host, _, port in (replica.rpartition(":") for replica in replicas):
        socket = {"address": host, "port_value": int(port)}
        endpoints.append({"endpoint": {"address": {"socket_address": socket}}})
    kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    assignment = {
        "@type": kind,
        "cluster_name": "tickcell",
        "endpoints": [{"lb_endpoints": endpoints}],
    }
    return {"resources": [assignment]}

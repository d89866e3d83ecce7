"""Prometheus, which reads what replicas and Envoy count, with deploy/prometheus's alerts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from deploy.cluster import answers, process, programs

_ALERTS = Path(__file__).resolve().parents[1] / "prometheus" / "alerts.yaml"


class Prometheus(process.Process):
    """A running Prometheus.

    Attributes:
      address: of its pages.
    """

    def __init__(self, directory: Path, replicas: Sequence[str], envoy: str) -> None:
        """Prepares it.

        Args:
          directory: for its configuration, what it reads, and its log.
          replicas: where they show their metrics, `HOST:PORT` each.
          envoy: where Envoy does.

        Raises:
          MissingError: it is not installed.
        """
        directory.mkdir()
        self.address = f"127.0.0.1:{process.free_port()}"
        jobs = [
            {"job_name": "tickcell", "static_configs": [{"targets": list(replicas)}]},
            {
                "job_name": "envoy",
                "metrics_path": "/stats/prometheus",
                "static_configs": [{"targets": [envoy]}],
            },
        ]
        configuration = directory / "prometheus.yaml"
        content = {
            "global": {"scrape_interval": "1s"},
            "rule_files": [str(_ALERTS)],
            "scrape_configs": jobs,
        }
        # JSON is YAML.
        configuration.write_text(json.dumps(content))
        command = [
            *(str(programs.prometheus()), f"--config.file={configuration}"),
            *(f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address={self.address}"),
            "--log.level=warn",
        ]
        super().__init__("prometheus", command, directory / "log")

    def run(self) -> None:
        """Starts it, and waits until it answers.

        Raises:
          StartError: it does not start.
        """
        self.start(lambda: answers.is_ok(self.address, "/-/ready"))

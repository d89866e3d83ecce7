"""What is deployed beside a server names what exists, and its own tools find no fault in it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from prometheus_client import parser

import documents
import tools
from tickcell.server.commands import serve
from tickcell.server.config import Config, Limits
from tickcell.server.monitoring.metrics import Metrics
from tickcell.server.observer import Observer
from tickcell.server.store import Pin
from tickcell.server.workers.sums import Sums

PROJECT = Path(__file__).resolve().parents[1]
ALERTS = PROJECT / "deploy" / "prometheus" / "alerts.yaml"
ALERTS_TEST = PROJECT / "deploy" / "prometheus" / "alerts_test.yaml"
DASHBOARD = PROJECT / "deploy" / "grafana" / "tickcell.json"
UNIT = PROJECT / "deploy" / "systemd" / "tickcell.service"


def samples() -> set[str]:
    """Returns the names of all samples that a server exposes."""
    observer = Observer()
    observer.counts_of("aa", "drive", "1")
    observer.models_are_missing({Pin("drive", "1", "aa"): 1})
    # As several workers show them: one shows the same, but for what is about workers.
    text = Sums().text([Metrics(observer, Limits()).text().decode()], serving=1).decode()
    found = {
        sample.name
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }
    # No model is served here.
    return found | {"tickcell_model_info"}


def used_in(text: str) -> set[str]:
    """Returns the names of the metrics that expressions use."""
    return set(re.findall(r"\b(?:tickcell|process)_\w+", text))


def expressions() -> list[str]:
    """Returns the expressions of the dashboard, with Grafana's variables replaced."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [
        target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
        for panel in panels
        for target in panel["targets"]
    ]


def alerts() -> list[str]:
    """Returns the alerts' names."""
    return re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8"))


class TestAlerts:
    def test_rules_are_rules(self) -> None:
        tools.promtool("check", "rules", "--lint-fatal", str(ALERTS))

    def test_configuration_reads_them(self) -> None:
        tools.promtool("check", "config", str(ALERTS.with_name("prometheus.yaml")))

    def test_each_fires_when_it_should_and_not_before(self) -> None:
        tools.promtool("test", "rules", str(ALERTS_TEST))

    def test_each_is_tried_both_ways(self) -> None:
        text = ALERTS_TEST.read_text(encoding="utf-8")
        well, *troubled = text.split("  - name: ")[1:]
        assert set(re.findall(r"alertname: (\w+)", well)) == {*alerts()}
        fired = re.findall(r"alertname: (\w+)\n +exp_alerts", "".join(troubled))
        assert {*fired} == {*alerts()}

    def test_every_metric_exists(self) -> None:
        for path in (ALERTS, ALERTS_TEST):
            used = used_in(path.read_text(encoding="utf-8"))
            assert used
            assert used <= samples(), path

    def test_document_says_what_to_do_about_each(self) -> None:
        text = documents.Document.read(PROJECT / "docs" / "operations.md").text
        assert re.findall(r"^\| `(Tickcell\w+)` \|", text, re.M) == alerts()


class TestDashboard:
    @pytest.mark.parametrize("expression", expressions())
    def test_every_metric_exists(self, expression: str) -> None:
        used = used_in(expression)
        assert used
        assert used <= samples()

    def test_every_expression_is_one(self, tmp_path: Path) -> None:
        rules = [
            {"record": f"dashboard:{number}", "expr": expression}
            for number, expression in enumerate(expressions())
        ]
        path = tmp_path / "dashboard.yaml"
        # JSON is YAML.
        path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
        tools.promtool("check", "rules", str(path))

    def test_every_metric_of_the_server_is_shown(self) -> None:
        shown = used_in("".join(expressions()))
        families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in samples()}
        of_interest = {name for name in families if name.startswith("tickcell_")}
        hidden = of_interest - {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
        assert hidden == {
            *("tickcell_build_info", "tickcell_sessions_limit", "tickcell_streams_limit"),
        }

    def test_panels_have_numbers_and_places_of_their_own(self) -> None:
        panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (place["x"] + column, place["y"] + row)
                for column in range(place["w"])
                for row in range(place["h"])
            }
            assert not cells & taken, panel["title"]
            taken |= cells


class TestUnit:
    @pytest.fixture
    def unit(self, tmp_path: Path) -> Path:
        """The unit as it is, but for its program, which is not installed here."""
        text = UNIT.read_text(encoding="utf-8")
        program = "/opt/tickcell/bin/tickcell"
        assert f"ExecStart={program} serve" in text
        path = tmp_path / UNIT.name
        path.write_text(text.replace(f"ExecStart={program}", f"ExecStart={sys.executable}"))
        return path

    def test_systemd_finds_no_fault_in_it(self, unit: Path) -> None:
        tools.run("systemd-analyze", "verify", "--man=no", str(unit), package="systemd")

    def test_systemd_finds_it_hardened(self, unit: Path) -> None:
        # From 0 for a program that can do nothing, to 100 for one that can do everything.
        arguments = ("security", "--offline=yes", "--threshold=20", str(unit))
        tools.run("systemd-analyze", *arguments, package="systemd")

    def test_it_waits_for_longer_than_a_drain_takes(self) -> None:
        text = UNIT.read_text(encoding="utf-8")
        (found,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.M)
        assert int(found) > Config(durability="none").grace_s + 5

    def test_its_settings_are_the_commands(self) -> None:
        text = UNIT.read_text(encoding="utf-8")
        used = set(re.findall(r"TICKCELL_\w+", text))
        assert used <= {parameter.envvar for parameter in serve.params}

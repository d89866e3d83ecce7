"""What Prometheus is shown: as its format has it, whole, and as the documents list it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import parser
from prometheus_client.metrics_core import Metric

import documents
import tools
from doubles.in_process_server import served
from doubles.looped import looped
from doubles.moody_cell import MoodyCell
from server.http_client import fetch
from server.serve_process import ServeProcess
from server.world import World
from tickcell.conformance import documented
from tickcell.conformance.caller import Caller, Refused, StreamPath, UnaryPath, refused_for
from tickcell.conformance.subject import Subject
from tickcell.model import Bundle
from tickcell.server.config import Limits
from tickcell.server.monitoring.metrics import Metrics
from tickcell.server.observer import Observer
from tickcell.server.workers.sums import Sums
from tickcell.v1 import session_service_pb2 as pb

IN_MEMORY = ("--durability", "none", "--listen", "localhost:0", "--metrics", "localhost:0")


def families(text: str) -> dict[str, Metric]:
    """Returns the metrics of an exposition by the name that their HELP line has."""
    found = {}
    for family in parser.text_string_to_metric_families(text):
        # The parser leaves out what each counter's name ends with.
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = family
    return found


def value(text: str, name: str, **labels: str) -> float:
    """Returns the number of one sample."""
    (found,) = [
        sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return found


def shown(observer: Observer) -> str:
    return Metrics(observer, Limits()).text().decode()


@pytest.fixture(scope="module")
def exposition() -> str:
    """The metrics of an engine that has done something of everything."""
    world = World(served(MoodyCell(), "other", "7"))
    world.create("a")
    for step in range(3):
        world.run(world.request("a", step, [1.0]))
    world.run(world.request("a", 2, [1.0]))
    world.server.engine.observer.models_are_missing({world.model.pin: 3})
    return shown(world.server.engine.observer)


class TestFormat:
    def test_promtool_finds_nothing_to_complain_of(self, exposition: str) -> None:
        tools.promtool("check", "metrics", text=exposition)

    def test_names_follow_the_conventions(self, exposition: str) -> None:
        for name, family in families(exposition).items():
            if name.startswith("process_"):
                continue
            assert re.fullmatch(r"tickcell(_[a-z]+)+", name)
            assert name.endswith("_total") == (family.type == "counter")
            assert family.documentation.endswith(".")
            if family.type == "histogram":
                assert name.endswith(("_seconds", "_requests", "_rows"))

    def test_models_that_are_served_are_shown_from_the_start(self, exposition: str) -> None:
        name = {"model": "other", "version": "7"}
        assert value(exposition, "tickcell_model_info", **name) == 1
        assert value(exposition, "tickcell_steps_applied_total", **name) == 0

    def test_sessions_of_a_version_that_was_removed_are_shown_as_long_as_that_lasts(self) -> None:
        observer, pin = Observer(), served(MoodyCell()).pin
        observer.models_are_missing({pin: 3})
        missing = {"model": "counting", "version": "1", "fingerprint": pin.fingerprint}
        assert value(shown(observer), "tickcell_sessions_missing_model", **missing) == 3
        observer.models_are_missing({})
        assert "tickcell_sessions_missing_model{" not in shown(observer)

    def test_no_label_names_a_session_or_owner(self, exposition: str) -> None:
        labels = {
            name
            for family in families(exposition).values()
            for sample in family.samples
            for name in sample.labels
        }
        assert labels == {
            *("fingerprint", "how", "le", "model", "numerics", "reason", "state", "version"),
        }

    def test_buckets_are_cumulative_and_end_with_the_count(self, exposition: str) -> None:
        histograms = [each for each in families(exposition).values() if each.type == "histogram"]
        assert len(histograms) == 6
        for family in histograms:
            for labels, buckets in _buckets(family):
                assert buckets == sorted(buckets)
                bounds = [bound for bound, _ in buckets]
                counts = [count for _, count in buckets]
                assert counts == sorted(counts)
                assert bounds[-1] == math.inf
                assert counts[-1] == value(exposition, f"{family.name}_count", **labels)

    def test_times_have_buckets_from_20_us_to_1_s(self, exposition: str) -> None:
        for name, family in families(exposition).items():
            if name.endswith("_seconds") and family.type == "histogram":
                for _, buckets in _buckets(family):
                    assert (buckets[0][0], buckets[-2][0]) == (2e-5, 1.0)

    def test_reasons_are_those_of_the_wire_contract_from_the_start(self) -> None:
        family = families(shown(Observer()))["tickcell_requests_refused_total"]
        assert {sample.labels["reason"] for sample in family.samples} == {*documented.metadata()}
        assert {sample.value for sample in family.samples} == {0.0}

    def test_counts_are_shown(self, exposition: str) -> None:
        model = {"model": "counting", "version": "1"}
        assert value(exposition, "tickcell_steps_applied_total", **model) == 3
        assert value(exposition, "tickcell_steps_repeated_total", **model) == 1
        assert value(exposition, "tickcell_tick_seconds_count", **model) == 4
        assert 0 < value(exposition, "tickcell_tick_seconds_sum", **model) < 60
        assert value(exposition, "tickcell_compute_seconds_count", **model) == 3
        assert value(exposition, "tickcell_sessions_created_total", **model) == 1
        assert value(exposition, "tickcell_sessions_limit") == Limits().max_sessions


def _buckets(family: Metric) -> Iterator[tuple[dict[str, str], list[tuple[float, float]]]]:
    """Yields the bounds and counts of a histogram's buckets, by its other labels."""
    found: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            labels = tuple(item for item in sample.labels.items() if item[0] != "le")
            found.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
    for labels, buckets in found.items():
        yield dict(labels), buckets


def test_document_lists_every_metric_with_its_type_labels_and_meaning(
    exposition: str, project: Path
) -> None:
    text = documents.Document.read(project / "docs" / "metrics.md").text
    rows = re.findall(r"^\| `(tickcell_\w+)` \| (\w+) \| ([\w`, ]*) ?\| (.+) \|$", text, re.M)
    listed = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in rows
    }
    shown = families(Sums().text([exposition], 1).decode()) | families(exposition)
    exposed = {
        name: (family.type, tuple(_labels(family)), family.documentation)
        for name, family in shown.items()
        if name.startswith("tickcell_")
    }
    assert listed == exposed


def _labels(family: Metric) -> list[str]:
    return sorted({name for sample in family.samples for name in sample.labels} - {"le"})


@pytest.mark.parametrize("durability", ["process-crash", "none"])
def test_real_server_shows_what_it_did(durability: str, tmp_path: Path) -> None:
    bundle = Bundle.load()
    place = () if durability == "none" else ("--store", str(tmp_path / "store"))
    with (
        ServeProcess(*IN_MEMORY[2:], "--durability", durability, *place) as server,
        Caller(server.address) as caller,
    ):
        subject = Subject(caller, looped(bundle, caller))
        with StreamPath(caller) as path:
            for _ in range(5):
                subject.advance(path)
            with pytest.raises(Refused):
                path.send(b"\xff")
            text = fetch(server.watched, "/metrics").body
            assert value(text, "tickcell_streams") == 1
        with UnaryPath(caller) as path, refused_for("MALFORMED"):
            path.send(b"\xff")
        with refused_for("SESSION_UNKNOWN"):
            caller.get("nobody")
        with refused_for("MODEL_UNKNOWN"):
            caller.create(model="nothing")
        with refused_for("SESSION_EXISTS"):
            caller.create(session=subject.id)
        with refused_for("ARGUMENT_INVALID"):
            caller.call(caller.sessions.ListSessions, pb.ListSessionsRequest(page_size=-1))
        caller.delete(subject.id, subject.generation)
        text = _once_kept_up(server)
    tools.promtool("check", "metrics", text=text)
    name = {"model": bundle.card.name, "version": bundle.card.version}
    assert value(text, "tickcell_steps_applied_total", **name) == 5
    assert value(text, "tickcell_sessions_created_total", **name) == 1
    assert value(text, "tickcell_sessions_ended_total", how="deleted", **name) == 1
    assert value(text, "tickcell_model_info", **name) == 1
    assert value(text, "tickcell_serving") == 1
    refused = {
        sample.labels["reason"]: sample.value
        for sample in families(text)["tickcell_requests_refused_total"].samples
        if sample.value
    }
    assert refused == {
        "MALFORMED": 2,
        "SESSION_UNKNOWN": 1,
        "MODEL_UNKNOWN": 1,
        "SESSION_EXISTS": 1,
        "ARGUMENT_INVALID": 1,
    }
    is_kept = durability != "none"
    assert (value(text, "tickcell_store_database_bytes") > 0) == is_kept
    assert (value(text, "tickcell_store_log_bytes") > 0) == is_kept
    assert value(text, "process_resident_memory_bytes") > 1e6


def _once_kept_up(server: ServeProcess) -> str:
    """Returns the metrics once the store's upkeep has seen the session's end, a second later."""
    while True:
        text = fetch(server.watched, "/metrics").body
        if value(text, "tickcell_store_sessions", state="ended") == 1:
            assert value(text, "tickcell_store_sessions", state="live") == 0
            return text

"""The observer's counts as metrics in Prometheus's text format. `docs/metrics.md` lists them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from tickcell.server.config import Limits
    from tickcell.server.histogram import Histogram
    from tickcell.server.observer import ModelCounts, Observer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MODEL = ("model", "version")

# Label values, and the number that they have.
_Rows = Iterable[tuple[tuple[str, ...], float]]


class Metrics(Collector):
    """Reads an observer's counts whenever it is asked, in the thread of whoever asks."""

    def __init__(self, observer: Observer, limits: Limits) -> None:
        self._observer = observer
        self._limits = limits
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        # Processor time, memory and open files, under the names that all its services have.
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Returns all metrics as they are now."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yields all metrics but the process's own."""
        yield from self._of_server()
        yield from self._of_steps()
        yield from self._of_sessions()
        yield from self._of_rounds()
        yield from self._of_store()
        yield from self._of_flight()

    def _of_server(self) -> Iterator[Metric]:
        observer = self._observer
        version = importlib.metadata.version("tickcell")
        yield _gauge(
            "tickcell_build_info",
            "Always 1; the version of tickcell.",
            [((version,), 1)],
            ("version",),
        )
        yield _gauge(
            "tickcell_model_info",
            "Always 1, for each served model; its labels identify it.",
            [
                ((model.card.name, model.card.version, model.fingerprint, model.numerics.hex()), 1)
                for model in observer.served
            ],
            (*_MODEL, "fingerprint", "numerics"),
        )
        yield _gauge(
            "tickcell_serving",
            "1 while the server serves, 0 while it drains or its store accepts no commits.",
            observer.health.is_serving,
        )
        yield _gauge("tickcell_streams", "Streams that are open.", observer.open_streams)
        yield _gauge(
            "tickcell_streams_limit",
            "Streams that may be open at once: --max-streams.",
            self._limits.max_streams,
        )

    def _of_steps(self) -> Iterator[Metric]:
        models = self._observer.models
        yield _counter(
            "tickcell_steps_applied_total",
            "Steps that were computed and committed.",
            [(_name(model), model.applied) for model in models],
            _MODEL,
        )
        yield _counter(
            "tickcell_steps_repeated_total",
            "Steps that had been applied before, and were answered from the window.",
            [(_name(model), model.repeated) for model in models],
            _MODEL,
        )
        yield _counter(
            "tickcell_requests_refused_total",
            "Requests that were answered with an error, by its reason.",
            [((reason,), count) for reason, count in self._observer.refused_counts.items()],
            ("reason",),
        )
        yield _seconds(
            "tickcell_tick_seconds",
            "Time in the server of a request of one step: from when it is read to its answer.",
            [(_name(model), model.tick) for model in models],
            _MODEL,
        )
        yield _seconds(
            "tickcell_compute_seconds",
            "Time of one call of a model's cell.",
            [(_name(model), model.compute) for model in models],
            _MODEL,
        )

    def _of_sessions(self) -> Iterator[Metric]:
        observer = self._observer
        models = observer.models
        yield _gauge(
            "tickcell_store_sessions",
            "Sessions in the store, of all its servers: live, and ended but remembered.",
            [(("live",), observer.sessions.live), (("ended",), observer.sessions.ended)],
            ("state",),
        )
        yield _gauge(
            "tickcell_sessions_limit",
            "Sessions that may be live in the store: --max-sessions.",
            self._limits.max_sessions,
        )
        yield _gauge(
            "tickcell_sessions_missing_model",
            "Live sessions, of all servers, pinned to a model that --models no longer has.",
            [
                ((pin.model, pin.version, pin.fingerprint), count)
                for pin, count in observer.missing.items()
            ],
            (*_MODEL, "fingerprint"),
        )
        yield _counter(
            "tickcell_sessions_created_total",
            "Sessions that this server created.",
            [(_name(model), model.created) for model in models],
            _MODEL,
        )
        yield _counter(
            "tickcell_sessions_ended_total",
            "Sessions whose end this server recorded: deleted, expired, moved or replaced.",
            [
                row
                for model in models
                for row in (
                    ((*_name(model), "deleted"), model.deleted),
                    ((*_name(model), "expired"), model.expired),
                    ((*_name(model), "moved"), model.moved),
                    ((*_name(model), "replaced"), model.replaced),
                )
            ],
            (*_MODEL, "how"),
        )
        yield _counter(
            "tickcell_sessions_claimed_total",
            "Sessions that were handed over to another caller.",
            [(_name(model), model.claimed) for model in models],
            _MODEL,
        )
        yield _counter(
            "tickcell_sessions_migrated_total",
            "Sessions that were migrated to this version.",
            [(_name(model), model.migrated) for model in models],
            _MODEL,
        )
        yield _counter(
            "tickcell_sessions_reset_total",
            "Sessions that were reset to their origin.",
            [(_name(model), model.reset) for model in models],
            _MODEL,
        )

    def _of_rounds(self) -> Iterator[Metric]:
        observer = self._observer
        yield _histogram(
            "tickcell_round_requests",
            "Requests that were computed and committed together in a round.",
            [((), observer.round_requests)],
        )
        yield _histogram(
            "tickcell_round_rows",
            "New steps times their series in a round.",
            [((), observer.round_rows)],
        )
        yield _counter(
            "tickcell_head_hits_total",
            "Requests that began from a head: the session's record was remembered.",
            observer.head_hits,
        )
        yield _counter(
            "tickcell_head_misses_total",
            "Records that were loaded, because they were not remembered or not reliable.",
            observer.head_misses,
        )
        yield _counter(
            "tickcell_heads_lost_total",
            "Requests that began again, because the store's record was not the head.",
            observer.heads_lost,
        )

    def _of_store(self) -> Iterator[Metric]:
        observer = self._observer
        yield _seconds(
            "tickcell_load_seconds", "Time of one load from the store.", [((), observer.load)]
        )
        yield _seconds(
            "tickcell_commit_seconds",
            "Time of one commit; a sync, if one is promised, comes after it.",
            [((), observer.commit)],
        )
        yield _counter(
            "tickcell_commits_contended_total",
            "Commits that had to wait, because another process had the store locked.",
            observer.contended,
        )
        yield _counter(
            "tickcell_store_failures_total",
            "Loads, commits and syncs that failed.",
            observer.store_failures,
        )
        yield _counter(
            "tickcell_store_upkeep_failures_total",
            "Failures of the upkeep, which is due each second.",
            observer.upkeep_failures,
        )
        yield _gauge(
            "tickcell_store_database_bytes",
            "Size of the store's database; 0 in memory.",
            observer.sizes.database,
        )
        yield _gauge(
            "tickcell_store_log_bytes",
            "Size of the database's write-ahead log; 0 in memory.",
            observer.sizes.log,
        )

    def _of_flight(self) -> Iterator[Metric]:
        flight = self._observer.flight
        yield _counter(
            "tickcell_flight_steps_total",
            "Applied steps that are in flight recordings; 0 without --record, as the others.",
            0 if flight is None else flight.tape.written_steps,
        )
        yield _counter(
            "tickcell_flight_dropped_steps_total",
            "Applied steps that are in none: the disk was full, or the recorder was behind.",
            0 if flight is None else flight.dropped_steps,
        )
        yield _counter(
            "tickcell_flight_failures_total",
            "Times that a flight recording could not be written.",
            0 if flight is None else flight.tape.failures,
        )
        yield _counter(
            "tickcell_flight_bytes_total",
            "Bytes of the flight recordings that this server wrote.",
            0 if flight is None else flight.tape.written_bytes,
        )


def _name(model: ModelCounts) -> tuple[str, str]:
    return model.model, model.version


def _counter(
    name: str, meaning: str, rows: _Rows | float, labels: tuple[str, ...] = ()
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, meaning, labels=labels)
    for values, number in _rows(rows):
        family.add_metric(values, number)
    return family


def _gauge(
    name: str, meaning: str, rows: _Rows | float, labels: tuple[str, ...] = ()
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for values, number in _rows(rows):
        family.add_metric(values, number)
    return family


def _rows(rows: _Rows | float) -> _Rows:
    return [((), rows)] if isinstance(rows, int | float) else rows


def _seconds(
    name: str,
    meaning: str,
    rows: Iterable[tuple[tuple[str, ...], Histogram]],
    labels: tuple[str, ...] = (),
) -> HistogramMetricFamily:
    """Makes a histogram of what was counted in nanoseconds."""
    return _histogram(name, meaning, rows, labels, unit=1e9)


def _histogram(
    name: str,
    meaning: str,
    rows: Iterable[tuple[tuple[str, ...], Histogram]],
    labels: tuple[str, ...] = (),
    unit: float = 1,
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, meaning, labels=labels)
    for values, histogram in rows:
        buckets = []
        up_to = 0
        # One copy, so that the buckets and their sum are of one moment.
        for bound, count in zip((*histogram.bounds, None), list(histogram.counts), strict=True):
            up_to += count
            buckets.append(("+Inf" if bound is None else str(bound / unit), up_to))
        family.add_metric(values, buckets, histogram.total / unit)
    return family

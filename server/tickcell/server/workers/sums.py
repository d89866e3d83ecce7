"""The metrics of all workers as those of one server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

# What each worker has of its own. Of other gauges, such as the sessions in the store and
# the limit on them, each worker shows the same.
_OF_EACH = {
    *("tickcell_streams", "tickcell_streams_limit"),
    *("process_resident_memory_bytes", "process_virtual_memory_bytes"),
    *("process_open_fds", "process_max_fds"),
}
_COUNTED = ("counter", "histogram")
# The parent's to say.
_SERVING = "tickcell_serving"


class Sums(Collector):
    """Adds up what workers show; what those counted that are gone stays counted."""

    def __init__(self) -> None:
        self._gone: list[Metric] = []
        self._lost = 0
        self._living: list[str] = []
        self._serving = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def leave(self, metrics: str, *, is_lost: bool) -> None:
        """Keeps the counts of a worker that has ended, as it told them last.

        Args:
          metrics: in Prometheus's text format.
          is_lost: whether nobody had told it to end.
        """
        self._lost += is_lost
        both = _together([self._gone, text_string_to_metric_families(metrics)])
        self._gone = [family for family in both if family.type in _COUNTED]

    def text(self, living: list[str], serving: int) -> bytes:
        """Returns the sums in Prometheus's text format.

        Args:
          living: the metrics of each worker that lives.
          serving: how many of them serve.
        """
        self._living, self._serving = living, serving
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yields the sums."""
        shown = [text_string_to_metric_families(text) for text in self._living]
        for family in _together([self._gone, *shown]):
            if family.name != _SERVING:
                yield family
        yield GaugeMetricFamily(
            _SERVING,
            "1 while the server serves, 0 while it drains or its store accepts no commits.",
            int(self._serving > 0),
        )
        yield GaugeMetricFamily("tickcell_workers", "Workers that serve.", self._serving)
        yield CounterMetricFamily(
            "tickcell_workers_lost_total",
            "Workers that ended without being told to, and were replaced.",
            self._lost,
        )


def _together(expositions: Iterable[Iterable[Metric]]) -> list[Metric]:
    """Adds up counters, histograms and what each has of its own; takes the most of the rest."""
    families: dict[str, Metric] = {}
    numbers: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in (family for exposition in expositions for family in exposition):
        kept = Metric(family.name, family.documentation, family.type)
        name = families.setdefault(family.name, kept).name
        sums = numbers.setdefault(name, {})
        is_added = family.type in _COUNTED or name in _OF_EACH
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.items()))
            before = sums.get(key)
            if before is None:
                sums[key] = sample.value
            else:
                sums[key] = before + sample.value if is_added else max(before, sample.value)
    for name, family in families.items():
        for (sample_name, labels), number in numbers[name].items():
            family.add_sample(sample_name, dict(labels), number)
    return list(families.values())

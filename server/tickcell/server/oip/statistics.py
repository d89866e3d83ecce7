"""How much was inferred, by model version, since the server started."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tickcell.server.oip.protocol import pb

if TYPE_CHECKING:
    from tickcell.server.oip.read_ahead import Read
    from tickcell.server.oip.sequences import Inferred

_MS_NS = 1_000_000


class Duration:
    """How often something took place, and how long it took in all."""

    __slots__ = ("count", "ns")

    def __init__(self) -> None:
        self.count = self.ns = 0

    def add(self, ns: int) -> None:
        """Counts it once more."""
        self.count += 1
        self.ns += ns

    def message(self) -> Any:
        """Returns it as a message."""
        return pb.StatisticDuration(count=self.count, ns=self.ns)


class _Counts:
    """The counts of one model version; see `Statistics`."""

    def __init__(self) -> None:
        self.last_inference_ms = 0
        self.success, self.fail, self.queue = Duration(), Duration(), Duration()
        self.executed, self.stored = Duration(), Duration()
        self.compute_input, self.compute_output = Duration(), Duration()

    def message(self, name: str, version: str) -> Any:
        compute = {
            "compute_input": self.compute_input.message(),
            "compute_infer": self.executed.message(),
            "compute_output": self.compute_output.message(),
        }
        statistics = pb.ModelStatistics(
            name=name,
            version=version,
            last_inference=self.last_inference_ms,
            inference_count=self.success.count,
            execution_count=self.executed.count,
            inference_stats=pb.InferStatistics(
                success=self.success.message(),
                fail=self.fail.message(),
                queue=self.queue.message(),
                cache_hit=self.stored.message(),
                **compute,
            ),
        )
        if self.success.count:
            statistics.batch_stats.append(pb.InferBatchStatistics(batch_size=1, **compute))
        return statistics


class Statistics:
    """Counts requests.

    An execution is a request of which at least one step was computed; what was answered
    from a sequence's window counts as a hit of the cache. The queue is that of a stream: the
    wait for answers to what was read before. The wait for its round is within a request's
    computing, as the commit is.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], _Counts] = {}

    def count_success(self, inferred: Inferred, read: Read, begin_ns: int, done_ns: int) -> None:
        """Counts a request that was answered.

        Args:
          inferred: its answer.
          read: it.
          begin_ns: when it was its turn, by `time.perf_counter_ns`.
          done_ns: when the engine had answered; the response was written since.
        """
        counts = self._of(inferred.version.place)
        now_ns = time.perf_counter_ns()
        counts.last_inference_ms = time.time_ns() // _MS_NS
        counts.success.add(now_ns - read.start_ns)
        queue_ns = begin_ns - read.parsed_ns
        counts.queue.add(queue_ns)
        is_stored = inferred.stepped.stored == inferred.frames.step_count
        engine_ns = done_ns - inferred.read_ns
        (counts.stored if is_stored else counts.executed).add(engine_ns)
        counts.compute_input.add(inferred.read_ns - read.start_ns - queue_ns)
        counts.compute_output.add(now_ns - done_ns)

    def count_failure(self, place: tuple[str, str], start_ns: int) -> None:
        """Counts a request of a model version that was refused."""
        self._of(place).fail.add(time.perf_counter_ns() - start_ns)

    def message(self, place: tuple[str, str]) -> Any:
        """Returns the counts of a model version as a message."""
        return self._of(place).message(*place)

    def _of(self, place: tuple[str, str]) -> _Counts:
        counts = self._counts.get(place)
        if counts is None:
            counts = self._counts[place] = _Counts()
        return counts

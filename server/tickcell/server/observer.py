"""Who hears of what goes on in an engine, and keeps count of it.

The counts are plain numbers. They are raised in the event loop, at little more cost than
an addition each, and read from any thread when somebody asks (see `monitoring.metrics`).
They are kept per model, reason and kind, and never per session, of which there is no end.
Times are in nanoseconds. What each tick passes is written out instead of called, since a
call costs it as much as all that is done there.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from tickcell.server import errors, record
from tickcell.server.computing import Begun
from tickcell.server.health import Health
from tickcell.server.histogram import Histogram
from tickcell.server.life_requests import Begin, Bury, Create, Delete, End, Reset
from tickcell.server.migration import Migrate
from tickcell.server.state_requests import Claim, CreateFrom, Move
from tickcell.server.store.contract import Counts, Sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tickcell.server.catalogue import ServedModel
    from tickcell.server.entries import Entry
    from tickcell.server.flight.recorder import Recorder
    from tickcell.server.monitoring.spans import Spans
    from tickcell.server.record import Life
    from tickcell.server.rounds import Answers, Computed, Request, Stepped
    from tickcell.server.store.contract import Key, Pin

# 20 us to 1 s, 1-2-5 in each decade: a tick at 50 Hz may take 20 ms, and should take one.
TIME_BOUNDS_NS = tuple(
    1000 * us
    for us in (
        *(20, 50, 100, 200, 500),
        *(1_000, 2_000, 5_000, 10_000, 20_000, 50_000),
        *(100_000, 200_000, 500_000, 1_000_000),
    )
)
# A round begins with 256 requests at most, and one request may bring thousands of rows.
REQUEST_BOUNDS = tuple(2**power for power in range(9))
ROW_BOUNDS = tuple(2**power for power in range(15))


class ModelCounts:
    """What was done with one model version.

    Attributes:
      model, version: its name and version.
      applied: steps that were computed and committed.
      repeated: steps that had been applied before, and were answered from the window.
      created: sessions.
      deleted, expired, moved, replaced: sessions, by how they ended.
      claimed: lives that ended since their session was handed over.
      migrated: sessions that came from another version.
      reset: lives that ended for another to begin in the same session.
      compute: how long one call of the cell took.
      tick: how long a request of one step took, from its being read to its answer.
    """

    __slots__ = (
        *("applied", "claimed", "compute", "created", "deleted", "expired"),
        *("migrated", "model", "moved", "repeated", "replaced", "reset", "tick", "version"),
    )

    def __init__(self, model: str, version: str) -> None:
        self.model, self.version = model, version
        self.applied = self.repeated = 0
        self.created = self.claimed = self.migrated = self.reset = 0
        self.deleted = self.expired = self.moved = self.replaced = 0
        self.compute = Histogram(TIME_BOUNDS_NS)
        self.tick = Histogram(TIME_BOUNDS_NS)


class Observer:
    """Is told by the engine and the services, in the event loop; returns at once.

    Attributes:
      health: what becomes of the store's troubles.
      spans: traces requests; None where nobody asked for that.
      flight: writes what is applied to files, likewise.
      served: the models that are served now.
      models: the counts by model, also of models that are served no more.
      refused_counts: the refusals by reason; each reason has one from the start.
      missing: how many live sessions are pinned to each version that is in no directory.
      load: how long a load took.
      commit: how long it took until the store had judged a commit.
      round_requests, round_rows: of a round that computed and committed, its requests,
        and its new steps times their series.
      head_hits: requests that began from a head.
      head_misses: records that were loaded.
      heads_lost: requests that began again, since no commit proved their head.
      contended: commits that found the store locked, and waited.
      store_failures: what the store could not do.
      upkeep_failures: of the store.
      open_streams: streams that are open now.
      sessions: in the store when it was last kept up; of all its servers.
      sizes: of the store's files then.
    """

    def __init__(self, health: Health | None = None, spans: Spans | None = None) -> None:
        self.health = health or Health()
        self.spans = spans
        self.flight: Recorder | None = None
        self.served: tuple[ServedModel, ...] = ()
        self.missing: dict[Pin, int] = {}
        self.refused_counts = dict.fromkeys(errors.REASONS, 0)
        self.load = Histogram(TIME_BOUNDS_NS)
        self.commit = Histogram(TIME_BOUNDS_NS)
        # Of the rounds that had more than one tick; those of one, by far the most, are only
        # counted.
        self._round_requests = Histogram(REQUEST_BOUNDS)
        self._round_rows = Histogram(ROW_BOUNDS)
        self._lone_ticks = 0
        self.head_hits = self.head_misses = self.heads_lost = 0
        self.contended = self.store_failures = self.upkeep_failures = 0
        self.open_streams = 0
        self.sessions = Counts(0, 0)
        self.sizes = Sizes(0, 0)
        self._models: dict[tuple[str, str], ModelCounts] = {}
        self._by_fingerprint: dict[str, ModelCounts] = {}

    @property
    def round_requests(self) -> Histogram:
        return self._round_requests.plus(1, self._lone_ticks)

    @property
    def round_rows(self) -> Histogram:
        return self._round_rows.plus(1, self._lone_ticks)

    @property
    def models(self) -> list[ModelCounts]:
        return list(self._models.values())

    def counts_of(self, fingerprint: str, model: str, version: str) -> ModelCounts:
        """Returns the counts of a model; two of one name and version share them."""
        counts = self._by_fingerprint.get(fingerprint)
        if counts is None:
            name = (model, version)
            counts = self._models.setdefault(name, ModelCounts(*name))
            self._by_fingerprint[fingerprint] = counts
        return counts

    def serves(self, models: Iterable[ServedModel]) -> None:
        """Hears which models are served from now on."""
        self.served = tuple(models)
        for model in self.served:
            self.counts_of(model.fingerprint, model.card.name, model.card.version)

    # Of requests.

    def refused(self, error: errors.TickcellError) -> None:
        """Hears that a caller is answered with an error; every service says so here."""
        self.refused_counts[error.reason] += 1
        if self.spans is not None:
            self.spans.refuse(error)

    def refused_one(self, error: errors.TickcellError) -> None:
        """Hears that one of several requests of a call is answered with an error, in its place."""
        self.refused_counts[error.reason] += 1
        if self.spans is not None:
            self.spans.refuse_one(error)

    def stepped(self, stepped: Sequence[tuple[Entry, Stepped]], now_ns: int) -> None:
        """Hears that step requests were answered.

        Args:
          stepped: the requests' entries and answers.
          now_ns: when, by the entries' clock.
        """
        for entry, (life, _, _, _, stored) in stepped:
            counts = self._by_fingerprint.get(life.fingerprint) or self._of_life(life)
            request: Any = entry.request
            step_count = request.step_count
            counts.applied += step_count - stored
            if stored:
                counts.repeated += stored
            if step_count == 1:
                taken_ns = now_ns - entry.enter_ns
                tick = counts.tick
                tick.counts[bisect_left(TIME_BOUNDS_NS, taken_ns)] += 1
                tick.total += taken_ns

    # Of rounds.

    def computed(self, model: ServedModel, taken_ns: int) -> None:
        """Hears that a cell was called."""
        counts = self._by_fingerprint.get(model.fingerprint)
        if counts is None:
            counts = self.counts_of(model.fingerprint, model.card.name, model.card.version)
        compute = counts.compute
        compute.counts[bisect_left(TIME_BOUNDS_NS, taken_ns)] += 1
        compute.total += taken_ns

    def round_ended(
        self,
        begun: Sequence[Begun | Computed],
        answers: Answers,
        again: Sequence[Key],
        entry_of: Callable[[Key], Entry],
    ) -> None:
        """Hears what became of requests that were computed and committed together.

        Args:
          begun: the requests.
          answers: what is answered.
          again: the sessions whose requests begin again.
          entry_of: gives the entry of a session whose turn it is.
        """
        rows = 0
        changed: list[Computed] = []
        for item in begun:
            if isinstance(item, Begun):
                request, _, found, _, _, _, _, stored, _, _ = item
                rows += (request.step_count - stored) * found.life.series_count
            else:
                changed.append(item)
        count = len(begun)
        if count == rows == 1:
            self._lone_ticks += 1
        else:
            self._round_requests.note(count)
            self._round_rows.note(rows)
        if again:
            self.heads_lost += len(again)
        if changed:
            answered = dict(answers)
            for item in changed:
                if answered.get(item.key) is item.answer:
                    self._life_changed(item, entry_of(item.key).request)

    # Of the store.

    def loaded(self, count: int, taken_ns: int) -> None:
        """Hears that so many records were loaded."""
        self.head_misses += count
        self.load.note(taken_ns)

    def committed(self, taken_ns: int) -> None:
        """Hears that the store has judged changes."""
        commit = self.commit
        commit.counts[bisect_left(TIME_BOUNDS_NS, taken_ns)] += 1
        commit.total += taken_ns
        self.health.commit_was_possible()

    def commit_waits(self) -> None:
        """Hears that the store is locked, so that changes wait."""
        self.contended += 1

    def store_failed(self, error: Exception) -> None:
        """Hears that the store could not do what it was asked."""
        self.store_failures += 1
        self.health.store_failed(error)

    def store_was_kept_up(self, error: Exception | None) -> None:
        """Hears what came of the store's upkeep, each second."""
        if error is not None:
            self.upkeep_failures += 1
        self.health.store_was_kept_up(error)

    def store_holds(self, sessions: Counts, sizes: Sizes) -> None:
        """Hears, each second, how much is in the store."""
        self.sessions, self.sizes = sessions, sizes

    # Of models.

    def models_are_missing(self, missing: Mapping[Pin, int]) -> None:
        """Hears to which versions that are in no directory live sessions are pinned, and how many.

        It does whenever that changes, and with nothing once all is well again.
        """
        self.missing = dict(missing)
        self.health.models_are_missing(missing)

    def _of_life(self, life: Life) -> ModelCounts:
        return self.counts_of(life.fingerprint, life.model, life.model_version)

    def _life_changed(self, item: Computed, request: Request) -> None:
        """Counts a session that was created, claimed, reset or ended."""
        if item.record is None:
            return
        counts = self._of_life(item.record.life)
        match request:
            case Create() | CreateFrom() | Begin():
                counts.created += 1
                expected = item.change.expected
                if item.change.was_live and expected is not None:
                    before = self._of_life(record.decode(item.key, expected).life)
                    if isinstance(request, Begin) and request.has_replaced:
                        before.replaced += 1
                    else:
                        # One that had expired had this id, and its end is noticed only now.
                        before.expired += 1
            case Claim():
                counts.claimed += 1
            case Migrate():
                counts.migrated += 1
            case Reset():
                counts.reset += 1
            case Delete() | End():
                counts.deleted += 1
            case Move():
                counts.moved += 1
            case Bury():
                counts.expired += 1

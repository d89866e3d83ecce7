"""One turn: all step requests that have arrived, in as few calls as they allow.

A turn begins when a step request arrives while none is waiting, and runs in the
event loop's next iteration. Until then every other request whose bytes are
already here joins it; none is waited for. It runs in rounds of at most one
request per session, in the order of arrival:

    load the records -> decide -> step the cells, rows stacked -> commit

A commit compares each record with what was loaded. Who lost to another server
goes round again from the load. Nothing stays in the process between turns, and
within one there is no await: whatever happens to a caller, a turn is whole.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import errors, record, rules, store
from tickcell.server.advance import Advance, compute

if TYPE_CHECKING:
    from tickcell.server.catalogue import Catalogue, ServedModel
    from tickcell.server.clock import Clock
    from tickcell.server.record import Record
    from tickcell.server.rules import StepRequest

_log = logging.getLogger(__name__)


class StepReply(NamedTuple):
    """The answer to a step request: `outputs` is `[T, B, O]` float32, little-endian."""

    generation: int
    first_step: int
    outputs: bytes


class Entry:
    """A request that takes part in a turn, and in the end its reply."""

    __slots__ = ("key", "reply", "request")

    def __init__(self, key: bytes, request: StepRequest) -> None:
        self.key = key
        self.request = request
        self.reply: StepReply | errors.TickcellError | None = None


# An entry, the bytes of the record it was decided on, and its new steps.
_Attempt = tuple[Entry, bytes | None, Advance]


class Turn:
    """Gathers step requests and runs them."""

    def __init__(
        self,
        sessions: store.Store,
        catalogue: Catalogue,
        clock: Clock,
        *,
        retention_ns: int,
        max_request_rows: int,
        strict_numerics: bool,
    ) -> None:
        self._store = sessions
        self._models = catalogue.by_fingerprint
        self._clock = clock
        self._retention_ns = retention_ns
        self._max_request_rows = max_request_rows
        self._strict_numerics = strict_numerics
        self._entries: list[Entry] = []

    def enter(self, entry: Entry) -> None:
        """Lets a request take part in the next turn; it has its reply one iteration later."""
        if not self._entries:
            asyncio.get_running_loop().call_soon(self._run_entered)
        self._entries.append(entry)

    def _run_entered(self) -> None:
        entries, self._entries = self._entries, []
        self.run(entries)

    def run(self, entries: list[Entry]) -> None:
        """Runs a turn of these requests, in their order, at once."""
        while len(entries) == 1:
            entries = self._run_round(entries)
        while entries:
            # A session's second request waits for the next round, as does a loser.
            taken: set[bytes] = set()
            this_round: list[Entry] = []
            later: list[Entry] = []
            for entry in entries:
                (later if entry.key in taken else this_round).append(entry)
                taken.add(entry.key)
            losers = self._run_round(this_round)
            entries = [*losers, *later]

    def _run_round(self, entries: list[Entry]) -> list[Entry]:
        """Answers the entries, and returns those whose commit was lost."""
        try:
            now_ns = self._clock.now_ns()
            attempts = self._decide(entries, now_ns)
            if not attempts:
                return []
            compute([advance for _, _, advance in attempts])
            return self._commit(attempts, now_ns)
        except Exception:  # noqa: BLE001 - the edge, see below.
            if len(entries) > 1:
                # One of them did it. Alone, each fails or succeeds by itself; what was
                # committed already is found stored.
                unanswered = [entry for entry in entries if entry.reply is None]
                return [loser for entry in unanswered for loser in self._run_round([entry])]
            # The edge for what no rule foresees: a fault of ours must not end the loop
            # that serves everybody.
            _log.exception("%s: a step failed", entries[0].request.session)
            entries[0].reply = errors.Internal(
                f"{entries[0].request.session}: the server failed on this step, and its log says "
                "why; sending it again is safe.",
                session=entries[0].request.session,
            )
            return []

    def _decide(self, entries: list[Entry], now_ns: int) -> list[_Attempt]:
        """Answers what needs no cell: refusals, and steps that are all stored."""
        attempts = []
        loaded = self._store.load([entry.key for entry in entries])
        for entry, encoded in zip(entries, loaded, strict=True):
            request = entry.request
            try:
                found = None if encoded is None else record.decode(encoded)
                current = rules.live(found, request.session, now_ns, self._retention_ns)
                decision = rules.decide(current, request, self._max_request_rows)
                if decision.stored == request.step_count:
                    entry.reply = StepReply(
                        current.life.generation,
                        decision.first_step,
                        rules.stored_outputs(current, decision),
                    )
                    continue
                model = self._served(current, request)
                advance = Advance(request, current, decision, model)
            except errors.TickcellError as error:
                entry.reply = error
                continue
            attempts.append((entry, encoded, advance))
        return attempts

    def _served(self, current: Record, request: StepRequest) -> ServedModel:
        """Returns the model that the session is pinned to, if it may be used."""
        model = served(self._models, current, request.session)
        if model.numerics == current.numerics:
            return model
        fields = {
            "session": request.session,
            "got": model.numerics.hex(),
            "expected": current.numerics.hex(),
            "next_step": current.next_step,
        }
        if self._strict_numerics:
            raise errors.NumericsChanged(
                f"{request.session}: was advanced to step {current.next_step} under the numerics "
                f"{fields['expected']}, this machine computes {fields['got']}; go on where it "
                "began, or serve with --numerics=serve.",
                **fields,
            )
        _log.warning(
            "%s: goes on from step %d under other numerics (%s, was %s)",
            request.session,
            current.next_step,
            fields["got"],
            fields["expected"],
        )
        return model

    def _commit(self, attempts: list[_Attempt], now_ns: int) -> list[Entry]:
        """Stores what was computed and answers it; returns the entries that lost."""
        changes = []
        replies = []
        for entry, encoded, advance in attempts:
            try:
                advanced, outputs = advance.finish(now_ns)
            except errors.OutputNotFinite as error:
                entry.reply = error
                continue
            changes.append(store.Change(entry.key, encoded, record.encode(advanced)))
            if advance.decision.stored:
                outputs = rules.stored_outputs(advance.record, advance.decision) + outputs
            first_step = advance.decision.first_step
            replies.append((entry, StepReply(advanced.life.generation, first_step, outputs)))
        if not changes:
            return []
        try:
            committed = self._store.commit(changes)
        except store.StoreFullError as error:
            for entry, _ in replies:
                entry.reply = full(entry.request.session, error)
            return []
        losers = []
        for (entry, reply), is_committed in zip(replies, committed, strict=True):
            if is_committed:
                entry.reply = reply
            else:
                losers.append(entry)
        return losers


def served(models: dict[str, ServedModel], current: Record, session: str) -> ServedModel:
    """Returns the model that a session is pinned to.

    Raises:
      ModelNotServed: it is not served here.
    """
    life = current.life
    model = models.get(life.fingerprint)
    if model is not None:
        return model
    raise errors.ModelNotServed(
        f"{session}: is pinned to {life.model} {life.model_version} ({life.fingerprint}), which "
        "is not served here; serve that bundle too.",
        session=session,
        model=life.model,
        model_version=life.model_version,
        model_fingerprint=life.fingerprint,
        next_step=current.next_step,
    )


def full(session: str, error: store.StoreFullError) -> errors.StoreFull:
    """Returns the answer to a request that the store had no room for."""
    return errors.StoreFull(
        f"{session}: nothing was applied: {error}; send it again once there is room.",
        session=session,
    )

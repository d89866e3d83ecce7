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
from typing import TYPE_CHECKING

from tickcell.server import errors, record, rules, step, store

if TYPE_CHECKING:
    from tickcell.server.catalogue import Catalogue, ServedModel
    from tickcell.server.clock import Clock
    from tickcell.server.record import Record
    from tickcell.server.step import Step

_log = logging.getLogger(__name__)


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
        self._entered: list[Step] = []

    def enter(self, asked: Step) -> None:
        """Lets a request take part in the next turn; it is answered one iteration later."""
        if not self._entered:
            asyncio.get_running_loop().call_soon(self._run_entered)
        self._entered.append(asked)

    def _run_entered(self) -> None:
        entered, self._entered = self._entered, []
        self.run(entered)

    def run(self, steps: list[Step]) -> None:
        """Runs a turn of these requests, in their order, at once."""
        while len(steps) == 1:
            steps = self._run_round(steps)
        while steps:
            # A session's second request waits for the next round, as does a loser.
            taken: set[bytes] = set()
            this_round: list[Step] = []
            later: list[Step] = []
            for asked in steps:
                (later if asked.key in taken else this_round).append(asked)
                taken.add(asked.key)
            steps = self._run_round(this_round) + later

    def _run_round(self, steps: list[Step]) -> list[Step]:
        """Answers the requests, and returns those whose commit was lost."""
        try:
            now_ns = self._clock.now_ns()
            new = self._decide(steps, now_ns)
            if not new:
                return []
            step.compute(new)
            return self._commit(new, now_ns)
        except Exception:  # noqa: BLE001 - the edge, see below.
            if len(steps) > 1:
                # One of them did it. Alone, each fails or succeeds by itself; what was
                # committed already is found stored.
                return [loser for asked in steps for loser in self._run_round([asked])]
            # The edge for what no rule foresees: a fault of ours must not end the loop
            # that serves everybody.
            _log.exception("%s: a step failed", steps[0].session)
            steps[0].error = errors.Internal(
                f"{steps[0].session}: the server failed on this step, and its log says why; "
                "sending it again is safe.",
                session=steps[0].session,
            )
            return []

    def _decide(self, steps: list[Step], now_ns: int) -> list[Step]:
        """Answers what needs no cell, and returns the requests that have new steps."""
        new = []
        loaded = self._store.load([asked.key for asked in steps])
        for asked, encoded in zip(steps, loaded, strict=True):
            asked.error = None
            try:
                found = None if encoded is None else record.decode(encoded)
                current = rules.live(found, asked.session, now_ns, self._retention_ns)
                asked.start_step, asked.stored, asked.digests = rules.decide(
                    current, asked, self._max_request_rows
                )
                asked.encoded, asked.record = encoded, current
                if asked.stored == asked.step_count:
                    asked.outputs = asked.stored_outputs()
                    continue
                asked.begin(self._served(current, asked.session))
            except errors.TickcellError as error:
                asked.error = error
            else:
                new.append(asked)
        return new

    def _served(self, current: Record, session: str) -> ServedModel:
        """Returns the model that the session is pinned to, if it may be used."""
        model = served(self._models, current, session)
        if model.numerics == current.numerics:
            return model
        fields = {
            "session": session,
            "got": model.numerics.hex(),
            "expected": current.numerics.hex(),
            "next_step": current.next_step,
        }
        if self._strict_numerics:
            raise errors.NumericsChanged(
                f"{session}: was advanced to step {current.next_step} under the numerics "
                f"{fields['expected']}, this machine computes {fields['got']}; go on where it "
                "began, or serve with --numerics=serve.",
                **fields,
            )
        _log.warning(
            "%s: goes on from step %d under other numerics (%s, was %s)",
            session,
            current.next_step,
            fields["got"],
            fields["expected"],
        )
        return model

    def _commit(self, steps: list[Step], now_ns: int) -> list[Step]:
        """Stores what was computed; returns the requests that lost."""
        changes = []
        finished = []
        for computed in steps:
            try:
                advanced = computed.finish(now_ns)
            except errors.OutputNotFinite as error:
                computed.error = error
                continue
            changes.append(store.Change(computed.key, computed.encoded, advanced))
            finished.append(computed)
        if not changes:
            return []
        try:
            committed = self._store.commit(changes)
        except store.StoreFullError as error:
            for computed in finished:
                computed.error = full(computed.session, error)
            return []
        if all(committed):
            return []
        return [
            loser
            for loser, is_committed in zip(finished, committed, strict=True)
            if not is_committed
        ]


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

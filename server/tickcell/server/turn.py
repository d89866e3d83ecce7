"""One turn: all step requests that have arrived, in as few calls as they allow.

A turn begins when a step request arrives while none is waiting, and runs in the
event loop's next iteration. Until then every other request whose bytes are
already here joins it; none is waited for. It runs in rounds of at most one
request per session, in the order of arrival:

    load the records -> decide -> step the cells, rows stacked -> commit

A commit compares each record with what was loaded. Who lost to another server
goes round again from the load. No state stays in the process between turns, and
within one there is no await: whatever happens to a caller, a turn is whole.

A request that is alone in its round, as one agent's tick is, takes the same parts
in a straight line: at 50 Hz all has gone cold since the tick before, and each
further call and list is paid for. If its stream foresaw it, it begins where the step
before it ended, on the guess that the store still holds that step's record. The commit
compares as ever; who guessed wrong, or fails in any way, begins again from the load.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from tickcell.server import errors, lives, rules, step, store
from tickcell.server.recent import Recent

if TYPE_CHECKING:
    from tickcell.server.catalogue import Catalogue, ServedModel
    from tickcell.server.clock import Clock
    from tickcell.server.record import Life, Record
    from tickcell.server.records import Records
    from tickcell.server.step import Step

_log = logging.getLogger(__name__)


class Turn:
    """Gathers step requests and runs them."""

    def __init__(
        self,
        records: Records,
        catalogue: Catalogue,
        clock: Clock,
        *,
        retention_ns: int,
        max_request_rows: int,
        strict_numerics: bool,
    ) -> None:
        self._records = records
        self._models = catalogue.by_fingerprint
        self._clock = clock
        self._retention_ns = retention_ns
        self._max_request_rows = max_request_rows
        self._strict_numerics = strict_numerics
        self._recent = Recent()
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
        while steps:
            # A session's second request waits for the next round, as does a loser.
            taken: set[store.Key] = set()
            this_round: list[Step] = []
            later: list[Step] = []
            for asked in steps:
                (later if asked.key in taken else this_round).append(asked)
                taken.add(asked.key)
            steps = self._run_round(this_round) + later

    def run_alone(self, asked: Step) -> None:
        """Runs a turn of one request, at once."""
        while not self._run_one(asked):
            pass

    def _run_round(self, steps: list[Step]) -> list[Step]:
        """Answers requests of different sessions, and returns those whose commit was lost."""
        if len(steps) > 1:
            try:
                return self._run_together(steps)
            except Exception as error:  # noqa: BLE001 - each is run again alone.
                # One of them did it. Alone, each fails or succeeds by itself; what was
                # committed already is found stored.
                _log.warning("%d steps failed together, each runs alone: %r", len(steps), error)
        return [asked for asked in steps if not self._run_one(asked)]

    def _run_one(self, asked: Step) -> bool:
        """Answers a request, and returns True, unless its guess or its commit was wrong."""
        guess, asked.guess = asked.guess, None
        try:
            now_ns = self._clock.now_ns()
            if guess is not None:
                if lives.is_expired(guess.record, now_ns) or not asked.follow(guess):
                    return False
            else:
                (encoded,) = self._records.load((asked.key,))
                if not self._begin(asked, encoded, now_ns):
                    return True
            asked.compute()
            advanced = asked.finish(now_ns)
            is_committed = self._records.exchange(store.Change(asked.key, asked.encoded, advanced))
            if is_committed:
                asked.encoded = advanced
                if guess is None:
                    # Else its stream remembers it, and most likely nobody else asks for it.
                    self._recent.keep(asked.key, advanced, asked.record)
            return is_committed
        except Exception as error:  # noqa: BLE001 - the edge: answered, and logged if unforeseen.
            if guess is not None:
                # What the store holds has the say, in what is wrong too.
                if not isinstance(error, errors.TickcellError):
                    _log.warning("%s: a guess failed, begins anew: %r", asked.session, error)
                return False
            asked.error = _refusal(asked.session, error)
        return True

    def _run_together(self, steps: list[Step]) -> list[Step]:
        """Does for several what `_run_one` does for one; returns those that lost."""
        now_ns = self._clock.now_ns()
        new = []
        loaded = self._records.load([asked.key for asked in steps])
        for asked, encoded in zip(steps, loaded, strict=True):
            try:
                if self._begin(asked, encoded, now_ns):
                    new.append(asked)
            except errors.TickcellError as error:
                asked.error = error
        if not new:
            return []
        step.compute(new)
        return self._commit(new, now_ns)

    def _begin(self, asked: Step, encoded: bytes | None, now_ns: int) -> bool:
        """Answers what needs no cell; returns whether there are new steps to compute.

        Raises:
          TickcellError: the request is refused.
        """
        # A guess that was kept would keep the step before, and that one's, and so on.
        asked.error = asked.guess = None
        found = None if encoded is None else self._recent.decode(asked.key, encoded)
        current = lives.live(found, asked.session, now_ns, self._retention_ns)
        asked.start_step, asked.stored, asked.digests = rules.decide(
            current, asked, self._max_request_rows, self._name_sensor
        )
        asked.encoded, asked.record = encoded, current
        if asked.stored == asked.step_count:
            asked.outputs = asked.stored_outputs()
            return False
        asked.begin(self._served(current, asked.session))
        return True

    def _name_sensor(self, life: Life, index: int) -> str:
        """Returns a sensor's name, or its index where nothing served knows it."""
        model = self._models.get(life.fingerprint)
        return str(index) if model is None else model.cell.interface.sensors[index].name

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
        finished, records = [], []
        for computed in steps:
            try:
                records.append(computed.finish(now_ns))
                finished.append(computed)
            except errors.OutputNotFinite as error:
                computed.error = error
        if not finished:
            return []
        settled = self._records.commit(
            [
                store.Change(computed.key, computed.encoded, advanced)
                for computed, advanced in zip(finished, records, strict=True)
            ]
        )
        lost = []
        for computed, advanced, is_committed in zip(finished, records, settled, strict=True):
            if isinstance(is_committed, errors.TickcellError):
                computed.error = is_committed
            elif is_committed:
                computed.encoded = advanced
                self._recent.keep(computed.key, advanced, computed.record)
            else:
                lost.append(computed)
        return lost


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


def _refusal(session: str, error: Exception) -> errors.TickcellError:
    """Returns the answer to a request that failed, which is being handled."""
    if isinstance(error, errors.TickcellError):
        return error
    # What no rule foresees: a fault of ours must not end the loop that serves everybody.
    _log.exception("%s: a step failed", session)
    return errors.Internal(
        f"{session}: the server failed on this step, and its log says why; sending it again is "
        "safe.",
        session=session,
    )

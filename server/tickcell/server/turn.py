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

import numpy as np

from tickcell.server import errors, record, rules, store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tickcell.server.catalogue import Catalogue, ServedModel
    from tickcell.server.clock import Clock
    from tickcell.server.record import Record
    from tickcell.server.rules import Decision, StepRequest

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


class _Advance:
    """The part of an entry that has new steps to compute."""

    __slots__ = ("decision", "encoded", "entry", "frames", "model", "outputs", "record", "state")

    def __init__(
        self,
        entry: Entry,
        encoded: bytes,
        record: Record,
        decision: Decision,
        model: ServedModel,
        frames: NDArray[np.float32],
    ) -> None:
        self.entry = entry
        self.encoded = encoded
        self.record = record
        self.decision = decision
        self.model = model
        self.frames = frames
        self.state = np.frombuffer(record.state, "<f4").reshape(record.life.series_count, -1)
        self.outputs: list[bytes] = []


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
            advances = self._decide(entries, now_ns)
            if not advances:
                return []
            self._step(advances)
            return self._commit(advances, now_ns)
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

    def _decide(self, entries: list[Entry], now_ns: int) -> list[_Advance]:
        """Answers what needs no cell: refusals, and steps that are all stored."""
        advances = []
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
                frames = _new_frames(current, request, decision, model)
            except errors.TickcellError as error:
                entry.reply = error
                continue
            assert encoded is not None
            advances.append(_Advance(entry, encoded, current, decision, model, frames))
        return advances

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

    def _step(self, advances: list[_Advance]) -> None:
        """Computes all new steps: per model and step, one call for all sessions."""
        if len(advances) == 1:
            _step_together(advances[0].model, advances)
            return
        by_model: dict[str, list[_Advance]] = {}
        for advance in advances:
            by_model.setdefault(advance.model.fingerprint, []).append(advance)
        for group in by_model.values():
            _step_together(group[0].model, group)

    def _commit(self, advances: list[_Advance], now_ns: int) -> list[Entry]:
        """Stores what was computed and answers it; returns the entries that lost."""
        changes = []
        finite = []
        for advance in advances:
            try:
                outputs = _finite_outputs(advance)
            except errors.OutputNotFinite as error:
                advance.entry.reply = error
                continue
            next_record = record.advance(
                advance.record,
                state=advance.state.tobytes(),
                digests=advance.decision.digests,
                outputs=outputs,
                numerics=advance.model.numerics,
                now_ns=now_ns,
            )
            changes.append(
                store.Change(advance.entry.key, advance.encoded, record.encode(next_record))
            )
            finite.append((advance, outputs))
        if not changes:
            return []
        try:
            committed = self._store.commit(changes)
        except store.StoreFullError as error:
            for advance, _ in finite:
                advance.entry.reply = full(advance.entry.request.session, error)
            return []
        losers = []
        for (advance, outputs), is_committed in zip(finite, committed, strict=True):
            if not is_committed:
                losers.append(advance.entry)
                continue
            if advance.decision.stored:
                outputs = rules.stored_outputs(advance.record, advance.decision) + outputs
            advance.entry.reply = StepReply(
                advance.record.life.generation, advance.decision.first_step, outputs
            )
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


def _new_frames(
    current: Record, request: StepRequest, decision: Decision, model: ServedModel
) -> NDArray[np.float32]:
    """Returns the frames of a request's new steps, `[T', B, F]`, within the sensors' ranges."""
    life = current.life
    readings = np.frombuffer(request.frames, "<f4")
    frames = readings.reshape(request.step_count, life.series_count, life.sensor_count)
    if decision.stored:
        frames = frames[decision.stored :]
    is_inside = (frames >= model.lowest) & (frames <= model.highest)
    if record.holds_all(is_inside):
        return frames
    wrong = rules.locate(frames, ~is_inside, life)
    sensor = model.cell.interface.sensors[wrong.sensor]
    frame = wrong.frame + decision.stored
    raise errors.FrameOutOfRange(
        f"{request.session}: frame {frame} of the request, series {wrong.series}, {sensor.name}: "
        f"got {wrong.reading:g} {sensor.unit}, expected {sensor.min_reading:g} to "
        f"{sensor.max_reading:g}.",
        session=request.session,
        frame=frame,
        series=wrong.series,
        sensor=sensor.name,
        unit=sensor.unit,
        reading=wrong.reading,
        min_reading=sensor.min_reading,
        max_reading=sensor.max_reading,
    )


def _step_together(model: ServedModel, advances: Sequence[_Advance]) -> None:
    """Steps several sessions of one model in lockstep, as long as each has frames."""
    step = model.cell.step
    if len(advances) == 1:
        (advance,) = advances
        for frame in advance.frames:
            output, advance.state = step(frame, advance.state)
            advance.outputs.append(output.tobytes())
        return
    for index in range(max(len(advance.frames) for advance in advances)):
        group = [advance for advance in advances if index < len(advance.frames)]
        outputs, state = step(
            np.concatenate([advance.frames[index] for advance in group]),
            np.concatenate([advance.state for advance in group]),
        )
        start = 0
        for advance in group:
            end = start + len(advance.state)
            advance.outputs.append(outputs[start:end].tobytes())
            advance.state = state[start:end]
            start = end


def _finite_outputs(advance: _Advance) -> bytes:
    """Returns the outputs of the new steps, `[T', B, O]`.

    Raises:
      OutputNotFinite: one of them, or the state after them, is not finite.
    """
    outputs = b"".join(advance.outputs)
    for name, computed in (("output", outputs), ("state", advance.state.tobytes())):
        if not record.is_finite(computed):
            request = advance.entry.request
            raise errors.OutputNotFinite(
                f"{request.session}: the cell's {name} is not finite for the frames from step "
                f"{advance.record.next_step} on; nothing was applied.",
                session=request.session,
                next_step=advance.record.next_step,
            )
    return outputs

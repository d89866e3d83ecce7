"""A session kept by `rules` and `record` alone, that answers in `PlainSession`'s words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from doubles.counting_cell import CountingCell
from doubles.plain_session import Answer, history_of
from tickcell.server import errors, lives, record, rules
from tickcell.server.clock import Moment
from tickcell.server.record import Record
from tickcell.server.store import Key

CELL = CountingCell()
FINGERPRINT = 64 * "0"
KEY = Key("", "s")
NUMERICS = bytes.fromhex(CELL.numerics_digest)

WORDS = {
    errors.SessionUnknown: "unknown",
    errors.SessionDeleted: "deleted",
    errors.SessionExpired: "expired",
    errors.SessionExists: "exists",
    errors.SessionRestarted: "restarted",
    errors.FrameShape: "shape",
    errors.FrameNotFinite: "not finite",
    errors.StepStale: "stale",
    errors.StepGap: "gap",
    errors.StepConflict: "conflict",
}


def moment(now: int) -> Moment:
    """Returns a moment whose wall time would end each session early, or late, by turns."""
    return Moment(now, (-1) ** now * 10**6)


@dataclasses.dataclass(frozen=True)
class RuledSession:
    """A session id; `stored` is what a store would hold for it."""

    window: int
    most: int
    ttl: int
    retention: int
    stored: bytes | None = None

    @property
    def record(self) -> record.Record | None:
        return None if self.stored is None else record.decode(KEY, self.stored)

    def create(self, request: str, generation: int, now: int) -> tuple[RuledSession, Answer]:
        wanted = lives.CreateRequest(
            session="s",
            request_id=request,
            generation=generation,
            model="m",
            model_version="1",
            fingerprint=FINGERPRINT,
            numerics=NUMERICS,
            series_count=1,
            window=self.window,
            max_step_count=self.most,
            sensor_count=1,
            output_count=1,
            state=CELL.initial_state().tobytes(),
            idle_ttl_ns=self.ttl,
            labels={},
        )
        return self._change(lambda old: lives.create(old, wanted, moment(now), self.retention))

    def step(
        self,
        generation: int | None,
        first: int | None,
        frames: tuple[float, ...],
        before: tuple[float, ...] | None,
        now: int,
    ) -> tuple[RuledSession, Answer]:
        readings = np.array(frames, np.float32)
        request = rules.StepRequest(
            KEY,
            generation,
            first,
            len(frames),
            readings.tobytes(),
            None if before is None else history_of(before),
        )
        try:
            old = lives.live(self.record, "s", now, self.retention)
            first_step, stored, histories = rules.decide(
                old, request, name_sensor=lambda _, index: str(index)
            )
        except errors.TickcellError as error:
            return self, _answer(error)
        new, outputs = _apply(old, readings[stored:], histories, now)
        answer = rules.stored_outputs(old, first_step, stored) + outputs
        return (
            dataclasses.replace(self, stored=record.encode(KEY, new)),
            (
                "ok",
                first_step,
                tuple(np.frombuffer(answer, "<f4").tolist()),
                new.history_before(first_step + len(frames)),
            ),
        )

    def touch(self, generation: int, now: int) -> tuple[RuledSession, Answer]:
        return self._change(
            lambda old: lives.touch(
                lives.live(old, "s", now, self.retention), "s", generation, moment(now)
            )
        )

    def reset(
        self, generation: int, request: str, new_generation: int, now: int
    ) -> tuple[RuledSession, Answer]:
        def begin(_: record.Record) -> tuple[int, bytes, bytes]:
            return new_generation, CELL.initial_state().tobytes(), NUMERICS

        return self._change(
            lambda old: lives.reset(
                lives.live(old, "s", now, self.retention),
                "s",
                generation,
                request,
                begin,
                moment(now),
            )
        )

    def delete(self, generation: int, now: int) -> tuple[RuledSession, Answer]:
        new, answer = self._change(
            lambda old: lives.delete(old, "s", generation, moment(now), self.retention)
        )
        return new, answer[:1]

    def _change(self, change: Callable[[Record | None], Record]) -> tuple[RuledSession, Answer]:
        try:
            new = change(self.record)
        except errors.TickcellError as error:
            return self, _answer(error)
        changed = dataclasses.replace(self, stored=record.encode(KEY, new))
        return changed, ("ok", new.life.generation, new.next_step)


def _apply(
    old: record.Record, fresh: np.ndarray, histories: bytes, now: int
) -> tuple[record.Record, bytes]:
    """Advances the record by new readings, as the server's turn does."""
    if not len(fresh):
        return old, b""
    state = np.frombuffer(old.state, "<f4").reshape(1, -1)
    outputs = []
    for reading in fresh:
        output, state = CELL.step(reading.reshape(1, 1), state)
        outputs.append(output.tobytes())
    new = record.advance(
        old,
        state=state.tobytes(),
        histories=histories,
        outputs=b"".join(outputs),
        numerics=NUMERICS,
        now=moment(now),
    )
    return new, b"".join(outputs)


def _answer(error: errors.TickcellError) -> Answer:
    word = WORDS[type(error)]
    return (word, int(error.metadata["next_step"])) if word == "gap" else (word,)

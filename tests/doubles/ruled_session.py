"""A session kept by `rules` and `record` alone, that answers in `PlainSession`'s words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from doubles.counting_cell import CountingCell
from doubles.plain_session import Answer
from tickcell.server import errors, lives, record, rules
from tickcell.server.record import Record

CELL = CountingCell()
FINGERPRINT = 64 * "0"
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


@dataclasses.dataclass(frozen=True)
class RuledSession:
    """A session id; `stored` is what a store would hold for it."""

    window: int
    ttl: int
    retention: int
    stored: bytes | None = None

    @property
    def record(self) -> record.Record | None:
        return None if self.stored is None else record.decode(self.stored)

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
            sensor_count=1,
            output_count=1,
            state=CELL.initial_state().tobytes(),
            idle_ttl_ns=self.ttl,
            labels={},
        )
        return self._change(lambda old: lives.create(old, wanted, now, self.retention))

    def step(
        self, generation: int | None, first: int | None, frames: tuple[float, ...], now: int
    ) -> tuple[RuledSession, Answer]:
        readings = np.array(frames, np.float32)
        request = rules.StepRequest("s", generation, first, len(frames), readings.tobytes())
        try:
            old = lives.live(self.record, "s", now, self.retention)
            first_step, stored, digests = rules.decide(
                old, request, max_rows=64, name_sensor=lambda _, index: str(index)
            )
        except errors.TickcellError as error:
            return self, _answer(error)
        new, outputs = _apply(old, readings[stored:], digests, now)
        answer = rules.stored_outputs(old, first_step, stored) + outputs
        return (
            dataclasses.replace(self, stored=record.encode(new)),
            ("ok", first_step, tuple(np.frombuffer(answer, "<f4").tolist())),
        )

    def touch(self, generation: int, now: int) -> tuple[RuledSession, Answer]:
        return self._change(
            lambda old: lives.touch(lives.live(old, "s", now, self.retention), "s", generation, now)
        )

    def reset(
        self, generation: int, request: str, new_generation: int, now: int
    ) -> tuple[RuledSession, Answer]:
        def begin(_: record.Record) -> tuple[int, bytes, bytes]:
            return new_generation, CELL.initial_state().tobytes(), NUMERICS

        return self._change(
            lambda old: lives.reset(
                lives.live(old, "s", now, self.retention), "s", generation, request, begin, now
            )
        )

    def delete(self, generation: int, now: int) -> tuple[RuledSession, Answer]:
        new, answer = self._change(
            lambda old: lives.delete(old, "s", generation, now, self.retention)
        )
        return new, answer[:1]

    def _change(self, change: Callable[[Record | None], Record]) -> tuple[RuledSession, Answer]:
        try:
            new = change(self.record)
        except errors.TickcellError as error:
            return self, _answer(error)
        changed = dataclasses.replace(self, stored=record.encode(new))
        return changed, ("ok", new.life.generation, new.next_step)


def _apply(
    old: record.Record, fresh: np.ndarray, digests: bytes, now: int
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
        digests=digests,
        outputs=b"".join(outputs),
        numerics=NUMERICS,
        now_ns=now,
    )
    return new, b"".join(outputs)


def _answer(error: errors.TickcellError) -> Answer:
    word = WORDS[type(error)]
    return (word, int(error.metadata["next_step"])) if word == "gap" else (word,)

"""Two clients share a session over a network that loses, doubles, delays and reorders.

Whatever arrives when, `rules` answers as plain Python does, and over all answers
no step of a generation is ever acknowledged with two frames or two outputs.
"""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from databases import Databases
from doubles.plain_session import PlainSession
from doubles.ruled_session import RuledSession
from tickcell.server.store import EmbeddedStore, SqliteStore

READINGS = st.sampled_from([0.0, 1.0, 2.5, -3.0])
EXPECTATIONS = st.sampled_from(["nothing", "what was acknowledged", "what another writer sent"])


class LossyNetwork(RuleBasedStateMachine):
    """What is sent stays deliverable for ever: a copy may still be on its way."""

    # Where the session lies; a plain value where there is none.
    store: EmbeddedStore | None = None

    @initialize(
        window=st.integers(1, 6),
        most=st.integers(1, 6),
        ttl=st.integers(5, 30),
        retention=st.integers(1, 20),
    )
    def begin(self, window: int, most: int, ttl: int, retention: int) -> None:
        bounds = (window, min(window, most), ttl, retention)
        self.plain = PlainSession(*bounds)
        self.ruled = RuledSession(*bounds, store=self.store)
        self.now = 1000
        self.lives = 0
        self.sent: list[tuple[Any, ...]] = []
        # What each of the two clients believes: generation and next step.
        self.beliefs = [(1, 0), (1, 0)]
        self.acknowledged: dict[tuple[int, int], tuple[float, float]] = {}
        self.sent.append(("create", "c0"))
        self.deliver(0)

    @rule(
        client=st.integers(0, 1),
        frames=st.lists(READINGS, min_size=1, max_size=8),
        expects=EXPECTATIONS,
    )
    def send_what_comes_next(self, client: int, frames: list[float], expects: str) -> None:
        generation, first = self.beliefs[client]
        before = self.expected(generation, first, expects)
        self.sent.append(("step", generation, first, tuple(frames), before))

    @rule(client=st.integers(0, 1), back=st.integers(-3, 8), expects=EXPECTATIONS, data=st.data())
    def send_again_in_other_chunks(
        self, client: int, back: int, expects: str, data: st.DataObject
    ) -> None:
        generation, next_step = self.beliefs[client]
        first = max(0, next_step - back)
        known = self.acknowledged
        frames = []
        for step in range(first, first + data.draw(st.integers(1, 6))):
            frame = known.get((generation, step), (None, None))[0]
            frames.append(data.draw(READINGS) if frame is None else frame)
        before = self.expected(generation, first, expects)
        self.sent.append(("step", generation, first, tuple(frames), before))

    @rule(frames=st.lists(READINGS, min_size=1, max_size=3))
    def send_without_an_index(self, frames: list[float]) -> None:
        self.sent.append(("step", None, None, tuple(frames), None))

    @rule(client=st.integers(0, 1), request=st.sampled_from("abc"))
    def send_a_reset(self, client: int, request: str) -> None:
        self.sent.append(("reset", self.beliefs[client][0], request))

    @rule(client=st.integers(0, 1), request=st.sampled_from("abc"), is_forced=st.booleans())
    def send_a_claim(self, client: int, request: str, is_forced: bool) -> None:
        generation = None if is_forced else self.beliefs[client][0]
        self.sent.append(("claim", generation, request))

    @rule(
        client=st.integers(0, 1),
        first=st.none() | st.integers(0, 12),
        count=st.integers(-1, 7),
    )
    def send_for_outputs(self, client: int, first: int | None, count: int) -> None:
        self.sent.append(("outputs", self.beliefs[client][0], first, count))

    @rule(
        request=st.sampled_from(["c0", "f1"]),
        source=st.sampled_from([(), (2.5,), (1.0, -3.0, 0.0)]),
    )
    def send_a_fork(self, request: str, source: tuple[float, ...]) -> None:
        self.sent.append(("fork", request, source))

    @rule(
        request=st.sampled_from(["c0", "b1"]),
        source=st.sampled_from([(2.5,), (1.0, -3.0, 0.0)]),
        kept=st.integers(0, 1),
    )
    def send_an_import(self, request: str, source: tuple[float, ...], kept: int) -> None:
        self.sent.append(("brought", request, source, kept))

    @rule(client=st.integers(0, 1), request=st.sampled_from("mn"))
    def send_a_move(self, client: int, request: str) -> None:
        self.sent.append(("move", self.beliefs[client][0], request))

    @rule(client=st.integers(0, 1), step=st.none() | st.integers(-1, 8))
    def send_for_a_fork_of_it(self, client: int, step: int | None) -> None:
        self.sent.append(("forked", self.beliefs[client][0], step))

    @rule(
        client=st.integers(0, 1),
        ahead=st.sampled_from([0, 0, 0, -1, 1]),
        branches=st.integers(1, 3).flatmap(
            lambda count: st.lists(st.tuples(*[READINGS] * count), min_size=1, max_size=3).map(
                tuple
            )
        ),
    )
    def send_a_preview(
        self, client: int, ahead: int, branches: tuple[tuple[float, ...], ...]
    ) -> None:
        generation, next_step = self.beliefs[client]
        self.sent.append(("preview", generation, next_step + ahead, branches))

    @rule(request=st.sampled_from(["c0", "c1", "c2"]), kind=st.sampled_from(["create", "begin"]))
    def send_a_creation(self, request: str, kind: str) -> None:
        self.sent.append((kind, request))

    @rule(client=st.integers(0, 1), kind=st.sampled_from(["touch", "delete", "end"]))
    def send_a_touch_or_deletion(self, client: int, kind: str) -> None:
        self.sent.append((kind, self.beliefs[client][0]))

    @rule(client=st.integers(0, 1))
    def look(self, client: int) -> None:
        if self.plain.end_at(self.now) is None:
            self.beliefs[client] = self.plain.view()

    @rule(ticks=st.integers(1, 12))
    def wait(self, ticks: int) -> None:
        self.now += ticks

    @rule(data=st.data(), reply_to=st.sampled_from([None, 0, 1]))
    def deliver_any(self, data: st.DataObject, reply_to: int | None) -> None:
        self.deliver(data.draw(st.integers(0, len(self.sent) - 1)), reply_to)

    @rule(reply_to=st.sampled_from([None, 0, 1]))
    def deliver_latest(self, reply_to: int | None) -> None:
        self.deliver(len(self.sent) - 1, reply_to)

    def deliver(self, index: int, reply_to: int | None = None) -> None:
        """Delivers a copy of a request; the reply may be lost, or reach either client."""
        name, *arguments = self.sent[index]
        if name in ("create", "fork", "brought", "begin", "reset", "claim"):
            arguments.append(self.lives + 1)
        self.plain, expected = getattr(self.plain, name)(*arguments, self.now)
        before = self.ruled.stored
        self.ruled, got = getattr(self.ruled, name)(*arguments, self.now)
        assert got == expected
        if got[0] != "ok":
            assert self.ruled.stored == before
            return
        self.lives = max(self.lives, self.plain.lived.generation)
        if name == "step":
            generation, frames = self.plain.lived.generation, arguments[2]
            _, first, outputs, _ = got
            if arguments[3] is not None:
                assert self.plain.lived.frames[:first] == arguments[3]
            for step, pair in enumerate(zip(frames, outputs, strict=True), first):
                assert self.acknowledged.setdefault((generation, step), pair) == pair
            if reply_to is not None:
                self.beliefs[reply_to] = (generation, first + len(frames))

    def expected(self, generation: int, first: int, expects: str) -> tuple[float, ...] | None:
        """Returns the frames that a client believes to be before a step."""
        if expects == "nothing":
            return None
        frames = [self.acknowledged.get((generation, step), (0.0, 0.0))[0] for step in range(first)]
        if generation == self.plain.lived.generation:
            # What was before the first step that it took, the plain session knows alone.
            known = self.plain.lived.frames[: min(first, self.plain.lived.kept_from)]
            frames[: len(known)] = known
        if expects == "what another writer sent" and frames:
            frames[-1] += 1.0
        return tuple(frames)

    @invariant()
    def as_many_steps_are_applied_as_there_are_frames(self) -> None:
        record = self.ruled.record
        assert record is not None
        if not record.life.is_deleted:
            assert (record.life.generation, record.next_step) == self.plain.view()
            kept_from = self.plain.lived.kept_from
            assert record.kept == min(record.next_step - kept_from, self.plain.window)


TestLossyNetwork = LossyNetwork.TestCase
TestLossyNetwork.settings = settings(max_examples=150, stateful_step_count=60)
pytest.mark.lengthy(TestLossyNetwork)


@pytest.mark.lengthy
def test_so_it_is_on_sqlite(tmp_path: pathlib.Path) -> None:
    with contextlib.closing(SqliteStore.open(tmp_path / "store")) as opened:
        assert_holds_on(opened, examples=40)


def test_so_it_is_on_postgresql(databases: Databases) -> None:
    with contextlib.closing(databases.store()) as opened:
        assert_holds_on(opened, examples=15)


def assert_holds_on(opened: EmbeddedStore, examples: int) -> None:
    class OnStore(LossyNetwork):
        store = opened

    run_state_machine_as_test(
        OnStore, settings=settings(max_examples=examples, stateful_step_count=40)
    )

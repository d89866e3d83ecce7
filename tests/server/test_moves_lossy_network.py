"""Two clients move a session to and fro between two stores, over a lossy network.

What is sent stays deliverable for ever, imports too. Each place answers as plain Python does,
and over both of them no step is ever acknowledged with two frames or two outputs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from doubles.plain_session import Frame, PlainSession, counted
from doubles.ruled_session import RuledSession
from server.test_rules_lossy_network import FRAMES

CLIENTS, AT_ONCE = st.integers(0, 1), st.booleans()


@dataclasses.dataclass(frozen=True)
class Belief:
    """Where a client believes that the session is."""

    place: int
    generation: int
    next_step: int


class Moves(RuleBasedStateMachine):
    """A session that has been at both places, and is at one of them."""

    @initialize(window=st.integers(1, 6), most=st.integers(1, 6))
    def begin(self, window: int, most: int) -> None:
        bounds = (window, min(window, most), 10**6, 10**6)
        self.plain = [PlainSession(*bounds), PlainSession(*bounds)]
        self.ruled = [RuledSession(*bounds), RuledSession(*bounds)]
        self.lives = 0
        self.moves: list[tuple[int, int]] = []
        self.sent: list[tuple[Any, ...]] = [(0, "create", "c0")]
        self.beliefs = [Belief(0, 1, 0)] * 2
        self.acknowledged: dict[int, tuple[Frame, float]] = {}
        self.deliver(0, None)

    @rule(client=CLIENTS, frames=st.lists(FRAMES, min_size=1, max_size=6), at_once=AT_ONCE)
    def send_what_comes_next(self, client: int, frames: list[Frame], at_once: bool) -> None:
        believed = self.beliefs[client]
        step = ("step", believed.generation, believed.next_step, tuple(frames), None)
        self.send(client, at_once, *step)

    @rule(client=CLIENTS, back=st.integers(1, 8), count=st.integers(1, 6), at_once=AT_ONCE)
    def send_again_in_other_chunks(self, client: int, back: int, count: int, at_once: bool) -> None:
        believed = self.beliefs[client]
        first = max(0, believed.next_step - back)
        frames = tuple(
            self.acknowledged.get(step, (1.0, 0.0))[0] for step in range(first, first + count)
        )
        self.send(client, at_once, "step", believed.generation, first, frames, None)

    @rule(client=CLIENTS, request=st.sampled_from("kl"), at_once=AT_ONCE)
    def send_a_claim(self, client: int, request: str, at_once: bool) -> None:
        self.send(client, at_once, "claim", self.beliefs[client].generation, request)

    @rule(client=CLIENTS, request=st.sampled_from("mn"), at_once=AT_ONCE)
    def send_a_move(self, client: int, request: str, at_once: bool) -> None:
        self.send(client, at_once, "move", self.beliefs[client].generation, request)

    @rule(client=CLIENTS)
    def ask_the_other_client(self, client: int) -> None:
        self.beliefs[client] = self.beliefs[1 - client]

    @rule(data=st.data(), reply_to=st.none() | CLIENTS)
    def deliver_any(self, data: st.DataObject, reply_to: int | None) -> None:
        self.deliver(data.draw(st.integers(0, len(self.sent) - 1)), reply_to)

    @rule(reply_to=st.none() | CLIENTS)
    def deliver_latest(self, reply_to: int | None) -> None:
        self.deliver(len(self.sent) - 1, reply_to)

    def send(self, client: int, at_once: bool, *request: Any) -> None:
        """Sends a request to where a client believes the session; at once, it is answered."""
        self.sent.append((self.beliefs[client].place, *request))
        if at_once:
            waiting = len(self.sent)
            self.deliver(waiting - 1, client)
            if len(self.sent) > waiting:
                # It was a move, and this is the import that follows.
                self.deliver(waiting, client)

    def deliver(self, index: int, reply_to: int | None) -> None:
        """Delivers a copy of a request; the reply may be lost, or reach either client."""
        place, name, *arguments = self.sent[index]
        got = self.answer(place, name, arguments)
        if got[0] != "ok":
            return
        plain = self.plain[place]
        self.lives = max(self.lives, plain.lived.generation)
        if name == "step":
            generation, frames = arguments[0], arguments[2]
            _, first, outputs, _ = got
            for step, pair in enumerate(zip(frames, outputs, strict=True), first):
                assert self.acknowledged.setdefault(step, pair) == pair
            believed = Belief(place, generation, first + len(frames))
        elif name == "move":
            self.send_the_export(place, arguments[0])
            return
        else:
            believed = Belief(place, *plain.view())
        # Whoever has sent an import knows whether the session has moved on since; and whoever
        # has created it waits for no other answer to that.
        is_late = (name == "imported" and arguments[0] != f"b{len(self.moves)}") or (
            name == "create" and bool(self.moves)
        )
        if reply_to is not None and not is_late:
            self.beliefs[reply_to] = believed

    def send_the_export(self, place: int, generation: int) -> None:
        """Sends what a move has answered to the other place, by a request of that move's own."""
        if (place, generation) not in self.moves:
            self.moves.append((place, generation))
        number = self.moves.index((place, generation)) + 1
        lived, window = self.plain[place].lived, self.plain[place].window
        kept = min(len(lived.frames) - lived.kept_from, window)
        exported = self.ruled[place].exported()
        self.sent.append((1 - place, "imported", f"b{number}", exported, lived.frames, kept))

    def answer(self, place: int, name: str, arguments: list[Any]) -> tuple[Any, ...]:
        """Returns the answer of a place, which must be that of plain Python."""
        plain, ruled, given = self.plain[place], self.ruled[place], list(arguments)
        if name == "imported":
            request, exported, frames, kept = arguments
            new, expected = plain.brought(request, frames, kept, self.lives + 1, 0)
            after, got = ruled.imported(request, exported, self.lives + 1, 0)
        else:
            given += [self.lives + 1] * (name in ("create", "claim"))
            new, expected = getattr(plain, name)(*given, 0)
            after, got = getattr(ruled, name)(*given, 0)
        assert got == expected
        assert got[0] == "ok" or after.stored == ruled.stored
        self.plain[place], self.ruled[place] = new, after
        return tuple(got)

    def teardown(self) -> None:
        """Holds all that was ever acknowledged, wherever, to one plain loop."""
        known = range(len(self.acknowledged))
        if all(step in self.acknowledged for step in known):
            frames = tuple(self.acknowledged[step][0] for step in known)
            outputs = tuple(self.acknowledged[step][1] for step in known)
            assert counted(frames, 0)[0] == outputs


TestMoves = Moves.TestCase
TestMoves.settings = settings(max_examples=150, stateful_step_count=60)
pytest.mark.lengthy(TestMoves)

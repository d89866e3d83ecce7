"""Requests of several lives of a sequence, late, twice and in any order, at two servers."""

from __future__ import annotations

import dataclasses
import random
import uuid
from typing import Any

import pytest

import seeds
from doubles.in_process_server import InProcessServer, served
from doubles.interrupted_store import InterruptedStore
from doubles.moody_cell import MoodyCell
from tickcell.conformance.peer import Peer, Refused, request

LIVES = [str(uuid.UUID(int=number)) for number in range(1, 7)]
STEPS = 12


@dataclasses.dataclass(frozen=True)
class Sent:
    """A request: of which life, which of its steps, and with which flags."""

    life: int
    step: int
    ends: bool = False

    @property
    def starts(self) -> bool:
        return self.step == 0

    @property
    def reading(self) -> float:
        """Tells lives and steps apart."""
        return self.life + self.step / 16

    @property
    def output(self) -> float:
        return self.reading + 1000 * self.step


@dataclasses.dataclass
class PlainSequence:
    """What the document says of a sequence, in plain Python."""

    life: int | None = None
    applied: int = 0
    has_ended: bool = False
    before: int | None = None

    def ask(self, sent: Sent) -> str:
        """Returns the reason of a refusal, "" for an answer."""
        refusal = self._start(sent) if sent.starts else self._go_on(sent)
        self.has_ended |= sent.ends and not refusal
        return refusal

    def _start(self, sent: Sent) -> str:
        if sent.life == self.before:
            return "SESSION_RESTARTED"
        if sent.life != self.life:
            self.life, self.before = sent.life, self.life
            self.applied, self.has_ended = 1, False
        return ""

    def _go_on(self, sent: Sent) -> str:
        if self.life is None:
            return "SESSION_UNKNOWN"
        if self.has_ended:
            is_left = sent.life == self.life and sent.step < self.applied
            return "" if is_left else "SESSION_DELETED"
        if sent.life != self.life:
            return "SESSION_RESTARTED"
        if sent.step > self.applied:
            return "STEP_GAP"
        self.applied = max(self.applied, sent.step + 1)
        return ""


def requests(chance: random.Random) -> list[Sent]:
    """Returns the requests of all lives as they reach the servers."""
    due = []
    for life in range(len(LIVES)):
        steps = chance.randint(1, STEPS)
        for step in range(steps):
            sent = Sent(life, step, ends=step == steps - 1 and chance.random() < 0.7)
            at = 100.0 * life + 5.0 * step
            # In time, mostly; twice or three times, and some of them when the next life is on.
            due += [(at + chance.choice([0, 0, 0, 1, 30, 120]), sent) for _ in range(3)]
    return [sent for _, sent in sorted(due, key=lambda each: each[0])]


def answer(peer: Peer, message: Any) -> tuple[str, list[float]]:
    """Returns the reason of a refusal, and the outputs of an answer."""
    try:
        return "", peer.send(message)
    except Refused as refused:
        return refused.reason, []


@pytest.mark.parametrize("seed", seeds.of(8, 3))
def test_each_step_is_applied_once_and_always_answered_alike(
    server: InProcessServer, records: InterruptedStore, seed: int
) -> None:
    chance = random.Random(seed)
    plain = PlainSequence()
    seen = set()
    with (
        InProcessServer([served(MoodyCell())], records) as second,
        Peer(server.address) as here,
        Peer(second.address) as there,
    ):
        for sent in requests(chance):
            expected = plain.ask(sent)
            seen.add(expected)
            message = request(
                "robot",
                [sent.reading],
                start=sent.starts,
                end=sent.ends,
                life=LIVES[sent.life],
                step=sent.step,
            )
            answered = answer(chance.choice([here, there]), message)
            assert answered == (expected, [] if expected else [sent.output]), (sent, plain)
    assert {"", "SESSION_RESTARTED"} <= seen

"""Two programs take one session over from each other, through links that heal late.

Each program goes by a server of its own, on one store. Time and again the link of one of them
keeps what is on its way until the other one has claimed the session, so that steps, claims and
answers from before arrive after it. Each program has frames of its own, so that it shows whose
were applied.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doubles import claimant
from doubles.slow_link import SlowLink
from replays import PATIENCE_S, Replays
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session
from tickcell.model import LiteRTCell

Event = dict[str, Any]


class Program:
    """A claimant, the link by which it goes, and all that it has said.

    Attributes:
      number: its own.
      link: to its server.
      events: what it has said so far.
    """

    def __init__(self, address: str, session: str, claims: int, number: int) -> None:
        self.number = number
        self.link = SlowLink(address)
        self.events: list[Event] = []
        self._has_news = threading.Condition()
        self._is_over = False
        script, arguments = claimant.__file__, (self.link.address, session, str(claims))
        self._process = subprocess.Popen(
            [sys.executable, script, *arguments, str(number)], stdout=subprocess.PIPE, text=True
        )
        self._listener = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._listener.start()

    def close(self) -> None:
        self.link.close()
        with self._process as process:
            process.kill()

    def wait_for(self, more: int, name: str = "") -> bool:
        """Waits for so many events more, of any name or of one; returns whether they came."""
        with self._has_news:
            goal = self._count(name) + more
            assert self._has_news.wait_for(
                lambda: self._is_over or self._count(name) >= goal, PATIENCE_S
            )
            return self._count(name) >= goal

    def end(self) -> None:
        """Waits for an end without a fault."""
        assert self._process.wait(PATIENCE_S) == 0
        self._listener.join(PATIENCE_S)

    def _count(self, name: str) -> int:
        return sum(name in ("", event["event"]) for event in self.events)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._has_news:
                self.events.append(json.loads(line))
                self._has_news.notify_all()
        with self._has_news:
            self._is_over = True
            self._has_news.notify_all()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The addresses of two servers on one store."""
    anywhere = "127.0.0.1:0"
    with (
        ServerProcess(tmp_path, listen=anywhere) as one,
        ServerProcess(tmp_path, "--store", str(one.store), listen=anywhere) as other,
    ):
        yield one.address, other.address


@pytest.mark.lengthy
@pytest.mark.parametrize("claims", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_whatever_arrives_late_each_output_is_of_one_loop_and_losers_are_told(
    servers: tuple[str, str], cell: LiteRTCell, claims: int
) -> None:
    Session.create(servers[0], "fought-for").detach()
    load = Replays(servers[0], 2)
    with contextlib.ExitStack() as stack:
        stack.enter_context(load.streaming())
        programs = [
            stack.enter_context(contextlib.closing(Program(address, "fought-for", claims, number)))
            for number, address in enumerate(servers)
        ]
        holds = hold_by_turns(programs)
        for program in programs:
            program.end()
    with Session.attach(servers[1], "fought-for") as session:
        unheard = judge(programs, cell, session.info.next_step, session.info.history)
    others = load.assert_as_in_the_plain_loop()
    counts = collections.Counter(event["event"] for each in programs for event in each.events)
    print(
        f"{holds} holds; {dict(counts)}; steps applied whose answer was lost: {unheard}; "
        f"steps of other sessions meanwhile: {others}"
    )
    # Of each claim, the session from before is told, however late it asks.
    assert counts["late step lost"] == 2 * claims
    assert counts["claimed"] == 2 * (claims + 1)
    assert holds > claims // 2


def hold_by_turns(programs: list[Program]) -> int:
    """Holds one's link until the other one has claimed, by turns; returns how often."""
    chance = random.Random(7)
    held, other = programs
    holds = 0
    while True:
        held.link.hold()
        has_claimed = other.wait_for(1, "claimed")
        if has_claimed and chance.random() < 0.05:
            # The caller gives up waiting for what is held, and sends it again behind it.
            other.link.hold()
            threading.Event().wait(1.5 * claimant.DEADLINE_S)
            other.link.release()
        # It goes on for a while.
        other.wait_for(chance.randint(0, 6))
        held.link.release()
        if not has_claimed:
            return holds
        holds += 1
        if chance.random() < 0.3:
            # Both at once, until whatever was late has come.
            held.wait_for(1)
        held, other = other, held


def judge(programs: list[Program], cell: LiteRTCell, next_step: int, history: bytes) -> int:
    """Holds all that the programs were given to one plain loop.

    Where a step was applied and its answer was not given out, it was one of those that
    somebody lost there; the outputs that follow, and the histories, say which.

    Args:
      programs: with their events.
      cell: of the loop.
      next_step: the session's in the end.
      history: likewise.

    Returns:
      How many such steps there were.
    """
    given: dict[int, tuple[bytes, str]] = {}
    lost = collections.defaultdict[int, list[bytes]](list)
    histories = collections.defaultdict[int, set[str]](set)
    for program in programs:
        for event in program.events:
            match event:
                case {"event": "output", "step": step, "frame": count, "bits": bits}:
                    # Nobody else was given an output of this step.
                    assert step not in given, event
                    given[step] = claimant.frame_of(program.number, count).tobytes(), bits
                case {"event": "step lost", "step": step, "frame": count}:
                    lost[step].append(claimant.frame_of(program.number, count).tobytes())
                case {"event": "claimed", "step": step, "history": shown}:
                    histories[step].add(shown)
    histories[next_step].add(history.hex())
    assert not given or max(given) < next_step
    loops = [(cell.initial_state(), bytes(8))]
    for step in range(next_step + 1):
        loops = [loop for loop in loops if {loop[1].hex()} >= histories[step]]
        assert loops, f"no loop has the history that was shown at step {step}"
        if step == next_step:
            break
        loops = list(gone_on(cell, loops, given.get(step), lost[step]))
        assert loops, f"no loop gives the output of step {step}"
    return next_step - len(given)


def gone_on(
    cell: LiteRTCell,
    loops: list[tuple[np.ndarray, bytes]],
    given: tuple[bytes, str] | None,
    lost: list[bytes],
) -> Iterator[tuple[np.ndarray, bytes]]:
    """Yields the loops that go on by the step that was given out, or by each that was lost."""
    for state, history in loops:
        for frame in lost if given is None else [given[0]]:
            output, after = cell.step(np.frombuffer(frame, np.float32), state)
            if given is None or output.tobytes().hex() == given[1]:
                yield after, hashlib.blake2b(history + frame, digest_size=8).digest()

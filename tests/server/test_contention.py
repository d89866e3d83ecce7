"""Changes that found the store locked are tried again, each until it has its own verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from server.world import in_loop
from tickcell.server import contention
from tickcell.server.contention import Contention
from tickcell.server.store import (
    Applied,
    Change,
    Contended,
    Key,
    Lost,
    StoreAwayError,
    StoreError,
    Unknown,
    Verdict,
)

Waiting = tuple[Sequence[Change], list[Verdict]]

CHANGES = [Change(Key("", name), b"1", b"2") for name in "abcd"]


class Commits:
    """A store's `commit` that does as it is told.

    Attributes:
      tried: the changes of each try so far.
    """

    def __init__(self, *outcomes: list[Verdict] | Exception) -> None:
        self._outcomes = list(outcomes)
        self.tried: list[list[Change]] = []

    def __call__(self, changes: Sequence[Change]) -> list[Verdict]:
        self.tried.append(list(changes))
        if not self._outcomes:
            return [Contended()] * len(changes)
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def settled(commits: Commits, *waiting: Waiting) -> list[list[Verdict | StoreError]]:
    """Waits until all that waits is settled; returns the verdicts of each."""

    async def run() -> list[list[Verdict | StoreError]]:
        settling = Contention(commits)
        futures = []
        for changes, verdicts in waiting:
            future = asyncio.get_running_loop().create_future()
            settling.wait(changes, verdicts, future.set_result)
            futures.append(future)
        return list(await asyncio.gather(*futures))

    return in_loop(run())


def test_only_what_was_contended_is_tried_again() -> None:
    commits = Commits([Contended(), Lost(b"3")], [Applied()])
    verdicts: list[Verdict] = [Applied(), Contended(), Lost(None), Contended()]
    assert settled(commits, (CHANGES, verdicts)) == [[Applied(), Applied(), Lost(None), Lost(b"3")]]
    assert commits.tried == [[CHANGES[1], CHANGES[3]], [CHANGES[1]]]


def test_those_who_wait_are_tried_together_and_each_hears_its_own() -> None:
    commits = Commits([Lost(b"3"), Contended()], [Applied()])
    first: Waiting = ([CHANGES[0], CHANGES[1]], [Applied(), Contended()])
    second: Waiting = ([CHANGES[2]], [Contended()])
    assert settled(commits, first, second) == [[Applied(), Lost(b"3")], [Applied()]]
    assert commits.tried == [[CHANGES[1], CHANGES[2]], [CHANGES[2]]]


def test_what_a_fault_may_have_applied_is_unknown_and_never_tried_again() -> None:
    commits = Commits(ArithmeticError("a fault of ours"))
    verdicts: list[Verdict] = [Applied(), Contended(), Contended()]
    ((applied, *unknown),) = settled(commits, (CHANGES[:3], verdicts))
    assert applied == Applied()
    assert [type(verdict) for verdict in unknown] == [Unknown, Unknown]
    assert len(commits.tried) == 1


def test_store_that_is_away_has_applied_nothing() -> None:
    away = StoreAwayError("store: is away.")
    assert settled(Commits(away), (CHANGES[:1], [Contended()])) == [[away]]


def test_store_that_stays_locked_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contention, "STORE_WAIT_S", 0.05)
    commits = Commits()
    assert settled(commits, (CHANGES[:1], [Contended()])) == [[Contended()]]
    assert len(commits.tried) > 1

"""How long a round waits for more requests."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tickcell.server.gathering import Gathering

# After so many turns without a new request it begins, and after so many in any case.
QUIET, MOST = 2, 8


def _turns(gathering: Gathering, counts: list[int]) -> int:
    """Returns in which turn a round begins, if so many requests are there in each."""
    for turn, count in enumerate(counts, 1):
        if not gathering.goes_on(count):
            return turn
    pytest.fail("it waits for ever")


def test_round_begins_once_no_more_requests_arrive() -> None:
    assert _turns(Gathering(), [1] * 100) == 1 + QUIET
    assert _turns(Gathering(), [1, 3, 3, 4] + [4] * 100) == 4 + QUIET


def test_round_waits_no_longer_than_some_turns_whatever_arrives() -> None:
    assert _turns(Gathering(), [*range(1, 100)]) == MOST + 1


@given(st.lists(st.lists(st.integers(0, 3), min_size=MOST + 1, max_size=MOST + 1), min_size=1))
def test_each_round_waits_as_if_it_were_the_first(rounds: list[list[int]]) -> None:
    one = Gathering()
    for arriving in rounds:
        counts = [1 + sum(arriving[: turn + 1]) for turn in range(len(arriving))]
        assert _turns(one, counts) == _turns(Gathering(), counts)

"""Tries are 0.05 to 2 s apart, for as long as they were meant to be."""

from __future__ import annotations

import pytest

from tickcell.client.patience import Patience


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def delays(patience: Patience, clock: Clock) -> list[float]:
    """Waits as told until told no more."""
    told = []
    while (delay := patience.next_delay_s()) is not None:
        told.append(delay)
        clock.now += delay
    return told


def test_delays_double_from_50_ms_to_2_s(clock: Clock) -> None:
    patience = Patience(None, clock)
    told = [patience.next_delay_s() for _ in range(8)]
    assert told == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_the_last_try_is_at_the_very_end(clock: Clock) -> None:
    assert sum(delays(Patience(60.0, clock), clock)) == pytest.approx(60.0)


def test_no_patience_is_one_try(clock: Clock) -> None:
    assert delays(Patience(0.0, clock), clock) == []


def test_without_a_limit_it_never_ends(clock: Clock) -> None:
    patience = Patience(None, clock)
    patience.next_delay_s()
    clock.now += 1e9
    assert patience.next_delay_s() is not None


def test_an_answer_begins_it_anew(clock: Clock) -> None:
    patience = Patience(1.0, clock)
    delays(patience, clock)
    patience.answered()
    assert patience.next_delay_s() == 0.05


def test_time_counts_from_the_first_failure(clock: Clock) -> None:
    patience = Patience(1.0, clock)
    clock.now += 1000.0
    assert patience.next_delay_s() == 0.05
    assert patience.waited_s == 0.0

"""Tries are 0.05 to 2 s apart, for as long as they were meant to be."""

from __future__ import annotations

import pytest

from tickcell.client import errors
from tickcell.client.backoff import Backoff


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


LOST = errors.LostError("UNAVAILABLE: gone", "UNAVAILABLE")


def patient(retry_for_s: float | None, clock: Clock) -> Backoff:
    return Backoff("car:1", retry_for_s, clock)


def delays(backoff: Backoff, clock: Clock) -> list[float]:
    """Waits as told until told no more."""
    told: list[float] = []
    try:
        while True:
            told.append(backoff.after(LOST))
            clock.now += told[-1]
    except errors.UnavailableError:
        return told


def test_delays_double_from_50_ms_to_2_s(clock: Clock) -> None:
    backoff = patient(None, clock)
    told = [backoff.after(LOST) for _ in range(8)]
    assert told == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_the_last_try_is_at_the_very_end(clock: Clock) -> None:
    assert sum(delays(patient(60.0, clock), clock)) == pytest.approx(60.0)


def test_no_patience_is_one_try(clock: Clock) -> None:
    assert delays(patient(0.0, clock), clock) == []


def test_without_a_limit_it_never_ends(clock: Clock) -> None:
    backoff = patient(None, clock)
    backoff.after(LOST)
    clock.now += 1e9
    assert backoff.after(LOST) == 0.1


def test_an_answer_begins_it_anew(clock: Clock) -> None:
    backoff = patient(1.0, clock)
    delays(backoff, clock)
    backoff.answered()
    assert backoff.after(LOST) == 0.05


def test_time_counts_from_the_first_failure(clock: Clock) -> None:
    backoff = patient(1.0, clock)
    clock.now += 1000.0
    assert backoff.after(LOST) == 0.05
    clock.now += 1.0
    with pytest.raises(errors.UnavailableError, match=r"car:1: no answer for 1 s"):
        backoff.after(LOST)


def test_delay_is_no_shorter_than_the_server_asks_for(clock: Clock) -> None:
    backoff = patient(10.0, clock)
    full = errors.OwnerRateExceededError("too many")
    full.retry_s = 3.0
    assert backoff.after(full) == 3.0
    full.retry_s = 0.001
    assert backoff.after(full) == 0.1
    full.retry_s = 3600.0
    assert backoff.after(full) == 10.0


@pytest.mark.parametrize(
    "error",
    [
        errors.FrameShapeError("no"),
        errors.StepConflictError("no"),
        errors.CallError("UNIMPLEMENTED: no", "UNIMPLEMENTED"),
        errors.ReplyError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_trying_again_does_not_help_is_raised_at_once(
    clock: Clock, error: errors.TickcellError
) -> None:
    with pytest.raises(type(error)) as raised:
        patient(None, clock).after(error)
    assert raised.value is error


def test_a_refusal_that_may_pass_is_raised_itself_when_the_time_is_over(clock: Clock) -> None:
    backoff, full = patient(1.0, clock), errors.StreamsFullError("full")
    assert backoff.after(full) == 0.05
    clock.now += 1.0
    with pytest.raises(errors.StreamsFullError):
        backoff.after(full)


def test_a_refusal_is_an_answer_after_which_time_counts_anew(clock: Clock) -> None:
    backoff = patient(1.0, clock)
    backoff.after(LOST)
    with pytest.raises(errors.FrameShapeError):
        backoff.after(errors.FrameShapeError("no"))
    clock.now += 1000.0
    assert backoff.after(LOST) == 0.05

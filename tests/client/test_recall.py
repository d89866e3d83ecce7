"""What is kept of the steps before, and for how long."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcell.client import errors, recall
from tickcell.client.life import Chunk, Place
from tickcell.client.recall import Recall
from tickcell.wire import history


def frame(step: int) -> bytes:
    return struct.pack("<f", step)


def answered(kept: Recall, count: int, now: float, place: Place | None = None) -> Place:
    """Answers the next steps, whose outputs are their frames; returns where that leads to."""
    start = place or Place(kept.end, history.START)
    frames = b"".join(frame(start.step + index) for index in range(count))
    chunk = Chunk.of(start, count, frames)
    kept.add_all(chunk, frames, now)
    return Place(start.step + count, chunk.last_history)


def gap(next_step: int) -> errors.StepGapError:
    return errors.StepGapError("gap", {"next_step": str(next_step)})


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    gaps_s=st.lists(st.sampled_from([0.0, 0.3, 2.0, 9.0]), min_size=30, max_size=30),
    window=st.integers(1, 12),
)
def test_the_window_and_the_last_seconds_are_kept_and_nothing_else(
    counts: list[int], gaps_s: list[float], window: int
) -> None:
    kept, now, place = Recall("car", 0, window), 100.0, Place(0, history.START)
    times: list[float] = []
    for count, gap_s in zip(counts, gaps_s, strict=False):
        now += gap_s
        times += [now] * count
        place = answered(kept, count, now, place)
    recent = sum(now - at <= recall.KEPT_S for at in times)
    assert kept.end - kept.first == min(len(times), max(window, recent))
    # Each is as it was sent, so what is sent again is the same request.
    frames = b"".join(map(frame, range(len(times))))
    chain = history.START + history.chain(history.START, frames, len(times))
    chunk = kept.chunk(kept.first, len(times))
    assert chunk.frames == frames[4 * kept.first :]
    assert chunk.expected_history == chain[8 * kept.first :][:8]
    assert chunk.last_history == chain[-8:]


def test_no_more_than_16_mebibytes_are_kept() -> None:
    kept = Recall("car", 0, 10_000)
    big = bytes(1 << 20)
    for step in range(40):
        kept.add_all(Chunk.of(Place(step, None), 1, big), b"out", 0.0)
    assert (kept.first, kept.end) == (25, 40)


def test_a_rollback_counts_once_until_it_is_healed() -> None:
    kept = Recall("car", 0, 8)
    answered(kept, 8, 0.0)
    assert kept.roll_back(gap(2), 8) == 2
    assert kept.roll_back(gap(2), 8) == 2
    kept.answer(chunk := kept.chunk(2, 3), chunk.frames, 1.0)
    assert kept.roll_back(gap(5), 8) == 5
    assert kept.rollback_count == 1
    kept.roll_back(gap(4), 8)
    assert kept.rollback_count == 2


@pytest.mark.parametrize("next_step", [8, 9, -1])
def test_a_gap_without_a_step_before_is_no_rollback(next_step: int) -> None:
    kept = Recall("car", 0, 8)
    answered(kept, 8, 0.0)
    raised = gap(next_step)
    with pytest.raises(errors.StepGapError) as found:
        kept.roll_back(raised, 8)
    assert found.value is raised
    assert kept.rollback_count == 0


def test_what_is_sent_again_must_give_the_same_outputs() -> None:
    kept = Recall("car", 0, 8)
    answered(kept, 8, 0.0)
    kept.roll_back(gap(2), 8)
    with pytest.raises(errors.HistoryDiffersError, match="step 3 was sent again") as differs:
        kept.answer(kept.chunk(2, 3), frame(2) + frame(9) + frame(4), 1.0)
    assert differs.value.step == 3
    assert kept.answered == 2


def test_steps_that_were_sent_again_are_kept_as_long_as_new_ones() -> None:
    kept = Recall("car", 0, 4)
    place = answered(kept, 12, 0.0, answered(kept, 8, 0.0))
    kept.roll_back(gap(8), 20)
    kept.answer(chunk := kept.chunk(8, 12), chunk.frames, 100.0)
    answered(kept, 1, 100.0 + recall.KEPT_S, place)
    assert (kept.first, kept.end) == (8, 21)


def test_steps_that_the_caller_goes_back_over_are_its_own_to_send() -> None:
    kept = Recall("car", 0, 8)
    answered(kept, 8, 0.0)
    kept.rewind(5)
    assert (kept.first, kept.end, kept.answered) == (0, 5, 5)
    kept.rewind(0)
    answered(kept, 2, 0.0)
    assert (kept.first, kept.end, kept.answered) == (0, 2, 2)

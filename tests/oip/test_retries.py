"""Requests that are sent again: by `sequence_life` and `sequence_step` none is applied twice."""

from __future__ import annotations

import uuid

import pytest

from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from doubles.interrupted_store import InterruptedStore
from doubles.manual_clock import ManualClock
from tickcell.conformance.peer import MUST_START, Peer, PeerStream, Refused

Path = Peer | PeerStream

LIFE, OTHER, THIRD = (str(uuid.UUID(int=number)) for number in (1, 2, 3))


def test_robot_at_rest_starts_again_and_again_and_is_applied_once(path: Path) -> None:
    for _ in range(3):
        assert path.infer(7, [0.0], start=True, life=LIFE, step=0) == [0.0]
    assert path.infer(7, [0.0], life=LIFE, step=1) == [1000.0]
    # The first answer was lost after all.
    assert path.infer(7, [0.0], start=True, life=LIFE, step=0) == [0.0]
    assert path.infer(7, [0.0], life=LIFE, step=2) == [2000.0]


def test_end_that_is_sent_again_has_its_first_answer(path: Path, clock: ManualClock) -> None:
    path.infer(7, start=True, life=LIFE, step=0)
    for _ in range(3):
        assert path.infer(7, [0.0], end=True, life=LIFE, step=1) == [1000.0]
    # The step before it too, and the start.
    assert path.infer(7, [1.0], start=True, life=LIFE, step=0) == [1.0]
    clock.advance(3599.0)
    assert path.infer(7, [0.0], end=True, life=LIFE, step=1) == [1000.0]
    clock.advance(2.0)
    with pytest.raises(Refused, match=rf"{MUST_START} \[SESSION_UNKNOWN"):
        path.infer(7, [0.0], end=True, life=LIFE, step=1)


def test_end_with_another_frame_is_a_conflict(path: Path) -> None:
    path.infer(7, start=True, life=LIFE, step=0)
    path.infer(7, [0.0], end=True, life=LIFE, step=1)
    with pytest.raises(Refused, match="step 1 was applied with another frame"):
        path.infer(7, [5.0], end=True, life=LIFE, step=1)


def test_step_behind_the_end_is_refused_in_tritons_words(path: Path) -> None:
    path.infer(7, start=True, end=True, life=LIFE, step=0)
    for frames in ([0.0], [0.0, 0.0]):
        with pytest.raises(Refused, match=MUST_START):
            path.infer(7, frames, life=LIFE, step=1)


def test_start_and_end_in_one_request_may_be_sent_again(path: Path) -> None:
    for _ in range(3):
        assert path.infer(7, [5.0], start=True, end=True, life=LIFE, step=0) == [5.0]


def test_late_start_of_a_life_never_ends_the_next(path: Path) -> None:
    path.infer(7, [0.0], start=True, life=LIFE, step=0)
    path.infer(7, [0.0], start=True, life=OTHER, step=0)
    with pytest.raises(Refused, match="SESSION_RESTARTED"):
        path.infer(7, [0.0], start=True, life=LIFE, step=0)
    path.infer(7, [0.0], end=True, life=OTHER, step=1)
    path.infer(7, [0.0], start=True, life=THIRD, step=0)
    with pytest.raises(Refused, match="SESSION_RESTARTED"):
        path.infer(7, [0.0], start=True, life=OTHER, step=0)
    assert path.infer(7, [5.0], life=THIRD, step=1) == [1005.0]


def test_life_that_nobody_started_is_refused(path: Path) -> None:
    with pytest.raises(Refused, match=MUST_START):
        path.infer(7, life=LIFE, step=0)
    path.infer(7, start=True)
    with pytest.raises(Refused, match="SESSION_RESTARTED"):
        path.infer(7, life=LIFE, step=1)


def test_gap_and_stale_step_are_refused(path: Path) -> None:
    path.infer(7, start=True, life=LIFE, step=0)
    with pytest.raises(Refused, match="STEP_GAP"):
        path.infer(7, life=LIFE, step=2)
    for step in range(1, 40):
        path.infer(7, life=LIFE, step=step)
    with pytest.raises(Refused, match="STEP_STALE"):
        path.infer(7, life=LIFE, step=1)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"life": LIFE}, "sequence_step: got none, expected sequence_life and"),
        ({"step": 0}, "sequence_life: got none, expected sequence_life and"),
        ({"life": LIFE, "step": -1}, "sequence_step: got -1, expected 0 or more"),
        ({"life": LIFE, "step": 1}, "sequence_step: got 1, expected 0 in the request that starts"),
        ({"life": "mine", "step": 0}, "sequence_life: got 'mine', expected a UUID"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(
    path: Path, options: dict[str, object], complaint: str
) -> None:
    with pytest.raises(Refused, match=complaint):
        path.infer(7, start=True, **options)
    with pytest.raises(Refused, match=MUST_START):
        path.infer(7)


def test_life_is_one_however_its_uuid_is_written(path: Path) -> None:
    path.infer(7, start=True, life=LIFE.upper(), step=0)
    assert path.infer(7, [5.0], life=LIFE.replace("-", ""), step=1) == [1005.0]


def test_retries_reach_another_server_of_the_store(records: InterruptedStore, peer: Peer) -> None:
    with (
        InProcessServer([served(CountingCell())], records) as second,
        Peer(second.address) as other,
    ):
        for each in (peer, other):
            assert each.infer(7, [5.0], start=True, life=LIFE, step=0) == [5.0]
        for each in (other, peer):
            assert each.infer(7, [5.0], life=LIFE, step=1) == [1005.0]
        for each in (peer, other):
            assert each.infer(7, [5.0], end=True, life=LIFE, step=2) == [2005.0]
        # The other one remembers the first life, and learns of the next.
        peer.infer(7, [5.0], start=True, life=OTHER, step=0)
        assert other.infer(7, [5.0], life=OTHER, step=1) == [1005.0]

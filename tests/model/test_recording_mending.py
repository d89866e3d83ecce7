"""Readings that drop out of recordings: left out, held or interpolated, and counted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcell.model.interface import Sensor
from tickcell.model.ranges import Ranges
from tickcell.model.recording import Block, RecordingError
from tickcell.model.recording.mending import Mending, Policy

NAN = float("nan")


def blocks(rows: list[list[float]], sizes: list[int]) -> Iterator[Block]:
    """Rows of one recording, cut into blocks of these sizes and the rest."""
    frames = np.array(rows, np.float32).reshape(len(rows), -1)
    cuts = [0, *np.cumsum(sizes).tolist(), len(rows)]
    for start, stop in itertools.pairwise(cuts):
        if start < min(stop, len(rows)):
            stop = min(stop, len(rows))
            times = np.arange(start, stop) / 10
            yield Block(0, range(start, stop), frames[start:stop], times, None)


def mended(
    policy: Policy, rows: list[list[float]], sizes: list[int], ranges: Ranges | None = None
) -> tuple[np.ndarray, Mending]:
    mending = Mending(policy, ranges)
    parts = [block.frames for block in mending.blocks(blocks(rows, sizes))]
    return np.concatenate(parts), mending


def test_each_policy_does_what_it_says() -> None:
    rows: list[list[float]] = [[NAN, 1], [2, NAN], [NAN, NAN], [8, 4]]

    dropped, counted = mended("drop", rows, [])
    assert dropped.tolist() == [[8, 4]]
    assert (counted.dropped_count, counted.mended_count) == (3, 0)

    held, counted = mended("hold", rows, [])
    assert held.tolist() == [[2, 1], [2, 1], [8, 4]]
    assert (counted.dropped_count, counted.mended_count) == (1, 3)

    drawn, counted = mended("interpolate", rows, [])
    assert drawn.tolist() == [[2, 1], [2, 2], [5, 3], [8, 4]]
    assert (counted.dropped_count, counted.mended_count) == (0, 4)
    assert [*counted.notes()] == ["readings that dropped out: 4 (interpolate)"]


@given(
    st.lists(st.lists(st.sampled_from([NAN, 1.0, 2.0, 5.0]), min_size=2, max_size=2), min_size=1),
    st.lists(st.integers(1, 4), max_size=4),
    st.sampled_from(["drop", "hold", "interpolate"]),
)
def test_how_a_recording_is_cut_into_blocks_changes_nothing(
    rows: list[list[float]], sizes: list[int], policy: Policy
) -> None:
    rows = [*rows, [3.0, 4.0]]

    whole, counted = mended(policy, rows, [])
    parts, counted_parts = mended(policy, rows, sizes)

    assert np.isfinite(whole).all()
    assert parts.tobytes() == whole.tobytes()
    assert [*counted.notes()] == [*counted_parts.notes()]


def test_readings_out_of_range_drop_out_and_masked_frames_do_not() -> None:
    ranges = Ranges([Sensor("a", "", 0, 10), Sensor("b", "", 0, 10)], mask_value=-1.0)
    rows: list[list[float]] = [[2, 1], [99, 3], [-1, -1], [-5, NAN], [8, 11], [6, 7]]

    dropped, counted = mended("drop", rows, [], ranges)
    assert dropped.tolist() == [[2, 1], [-1, -1], [6, 7]]
    assert counted.dropped_count == 3

    held, counted = mended("hold", rows, [3], ranges)
    assert held.tolist() == [[2, 1], [2, 3], [-1, -1], [2, 3], [8, 3], [6, 7]]
    assert (counted.dropped_count, counted.mended_count) == (0, 4)

    drawn, counted = mended("interpolate", rows, [], ranges)
    assert drawn.tolist() == [[2, 1], [3.5, 3], [-1, -1], [6.5, 5], [8, 6], [6, 7]]
    assert counted.mended_count == 4


def test_what_was_good_stays_as_it_was() -> None:
    rows = [[1.0, 2.0], [3.0, 4.0]]

    for policy in ("drop", "hold", "interpolate"):
        got, counted = mended(policy, rows, [1])

        assert got.tolist() == rows
        assert not [*counted.notes()]


def test_nothing_is_held_from_one_recording_to_the_next() -> None:
    first = Block(0, [0], np.array([[1.0]], np.float32), np.zeros(1), None)
    second = Block(1, [1, 2], np.array([[NAN], [2.0]], np.float32), np.arange(2.0), None)
    mending = Mending("hold")

    got = [block.frames.tolist() for block in mending.blocks(iter([first, second]))]

    assert got == [[[1.0]], [[2.0]]]
    assert mending.dropped_count == 1


def test_a_sensor_without_any_reading_cannot_be_interpolated() -> None:
    with pytest.raises(RecordingError, match="reading 2 of a frame drops out throughout"):
        mended("interpolate", [[1, NAN], [2, NAN]], [])

"""A history stands for all frames of a session, however they were sent."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tickcell.wire import history


def of_frames(frames: list[bytes]) -> bytes:
    """Returns the history as the contract defines it."""
    chained = bytes(8)
    for frame in frames:
        chained = hashlib.blake2b(chained + frame, digest_size=8).digest()
    return chained


@given(st.lists(st.binary(min_size=12, max_size=12), min_size=1, max_size=9), st.data())
def test_history_is_the_same_in_any_chunks(frames: list[bytes], data: st.DataObject) -> None:
    cuts = data.draw(st.sets(st.integers(0, len(frames))))
    last = history.START
    for start, end in itertools.pairwise(sorted({0, len(frames)} | cuts)):
        after = history.chain(last, b"".join(frames[start:end]), end - start)
        assert after == b"".join(of_frames(frames[:step]) for step in range(start + 1, end + 1))
        last = after[-history.SIZE :]
    assert last == of_frames(frames)


def test_history_tells_frames_and_their_order_apart() -> None:
    frames = [np.array(values, "<f4").tobytes() for values in ([0.0], [-0.0], [1.0], [2.0])]
    told = {of_frames(list(order)) for order in itertools.permutations(frames)}
    assert len(told) == 24
    assert len({history.chain(history.START, frame, 1) for frame in frames}) == len(frames)

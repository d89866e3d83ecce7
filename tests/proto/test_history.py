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


@given(st.data(), st.integers(1, 20), st.integers(1, 8))
def test_steps_at_which_series_begin_anew_have_a_bit_for_each_behind_their_frame(
    data: st.DataObject, series_count: int, step_count: int
) -> None:
    frames = np.arange(series_count * step_count, dtype="<f4").reshape(step_count, -1)
    resets = sorted(data.draw(st.sets(st.integers(0, series_count * step_count - 1))))
    last, expected = history.START, b""
    for step, frame in enumerate(frames):
        said = frame.tobytes()
        begun = [index % series_count for index in resets if index // series_count == step]
        if begun:
            bits = np.zeros(-(-series_count // 8) * 8, np.uint8)
            bits[begun] = 1
            said += np.packbits(bits, bitorder="little").tobytes()
        last = hashlib.blake2b(last + said, digest_size=8).digest()
        expected += last
    sent = frames.tobytes()
    assert history.chain(history.START, sent, step_count, resets, series_count) == expected
    if not resets:
        assert history.chain(history.START, sent, step_count) == expected

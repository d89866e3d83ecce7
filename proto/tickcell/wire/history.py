"""The history of a session: 8 bytes that stand for all frames that it was given, in order.

Server and client compute it alike, each from the frames that it has. Where two histories
are the same, so are all steps before, but for one pair in 2^64.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

SIZE = 8
# Of a generation before its first step.
START = bytes(SIZE)

# To copy it takes less than to make one, which is most of what a short frame takes.
_EMPTY = hashlib.blake2b(digest_size=SIZE)


def chain(
    before: bytes,
    frames: bytes,
    step_count: int,
    resets: Sequence[int] = (),
    series_count: int = 1,
) -> bytes:
    """Returns the history after each of some steps, in order.

    Args:
      before: the history before the first of them.
      frames: `[T, B, F]` float32, little-endian.
      step_count: T, 1 or more.
      resets: the series that begin anew before a step, each as t x B + b, ascending.
      series_count: B.
    """
    if resets:
        return _chain_marked(before, frames, step_count, resets, series_count)
    if step_count == 1:
        return hashlib.blake2b(before + frames, digest_size=SIZE).digest()
    size = len(frames) // step_count
    histories = []
    for (frame,) in struct.iter_unpack(f"{size}s", frames):
        digest = _EMPTY.copy()
        digest.update(before + frame)
        before = digest.digest()
        histories.append(before)
    return b"".join(histories)


def _chain_marked(
    before: bytes, frames: bytes, step_count: int, resets: Sequence[int], series_count: int
) -> bytes:
    """Chains steps of which some have, behind their frame, a bit for each series: does it begin."""
    marks: dict[int, int] = {}
    for index in resets:
        step, series = divmod(index, series_count)
        marks[step] = marks.get(step, 0) | 1 << series
    size, mark_size = len(frames) // step_count, -(-series_count // 8)
    histories = []
    for step in range(step_count):
        frame = frames[step * size : (step + 1) * size]
        if step in marks:
            frame += marks[step].to_bytes(mark_size, "little")
        before = hashlib.blake2b(before + frame, digest_size=SIZE).digest()
        histories.append(before)
    return b"".join(histories)

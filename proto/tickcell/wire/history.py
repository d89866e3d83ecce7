"""The history of a session: 8 bytes that stand for all frames that it was given, in order.

Server and client compute it alike, each from the frames that it has. Where two histories
are the same, so are all steps before, but for one pair in 2^64.
"""

from __future__ import annotations

import hashlib

SIZE = 8
# Of a generation before its first step.
START = bytes(SIZE)

# To copy it takes less than to make one, which is most of what a short frame takes.
_EMPTY = hashlib.blake2b(digest_size=SIZE)


def chain(before: bytes, frames: bytes, step_count: int) -> bytes:
    """Returns the history after each of some steps, in order.

    Args:
      before: the history before the first of them.
      frames: `[T, B, F]` float32, little-endian.
      step_count: T, 1 or more.
    """
    if step_count == 1:
        return hashlib.blake2b(before + frames, digest_size=SIZE).digest()
    size = len(frames) // step_count
    histories = []
    for start in range(0, step_count * size, size):
        digest = _EMPTY.copy()
        digest.update(before + frames[start : start + size])
        before = digest.digest()
        histories.append(before)
    return b"".join(histories)

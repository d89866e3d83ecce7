"""The order in time of the versions of one session's record, by which the latest is recovered."""

from __future__ import annotations

from tickcell.server import record


def version(encoded: bytes) -> tuple[int, int]:
    """Returns what compares greater the later the version of a record is.

    Raises:
      ValueError: the record is damaged.
    """
    decoded = record.decode(encoded)
    # A session is renewed by each step and each reset, and its clock never goes back.
    return max(decoded.renew_ns, decoded.life.delete_ns), decoded.next_step

"""The server's time."""

from __future__ import annotations

from typing import NamedTuple


class Moment(NamedTuple):
    """One moment on two clocks, in nanoseconds.

    Attributes:
      store_ns: by the store's own clock, which alone decides when a session ends.
      wall_ns: since 1970, for display.
    """

    store_ns: int
    wall_ns: int

"""How many values there were of which size."""

from __future__ import annotations

from bisect import bisect_left


class Histogram:
    """Counts values by bucket; read from any thread, each number by itself.

    Attributes:
      bounds: the largest value of each bucket, smallest first; what is above all of them
        goes into one bucket more.
      counts: of each bucket.
      total: of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0

    def note(self, value: int) -> None:
        """Counts a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def plus(self, value: int, count: int) -> Histogram:
        """Returns another one, with so many more of a value."""
        more = Histogram(self.bounds)
        more.counts = list(self.counts)
        more.counts[bisect_left(self.bounds, value)] += count
        more.total = self.total + count * value
        return more

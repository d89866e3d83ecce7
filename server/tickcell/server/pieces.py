"""How many records are read in one slice, by the size of those before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tickcell.server.store.contract import Key

# To read, check and decode so much takes about a millisecond.
_SLICE_BYTES = 256 * 1024
_FIRST = 16
_GROWTH = 4


class Pieces:
    """Sizes the pieces of a long scan.

    Attributes:
      count: how many records to read next.
    """

    def __init__(self, most: int) -> None:
        """Begins with few.

        Args:
          most: the most records in a piece, however small they are.
        """
        self._most = most
        self.count = min(most, _FIRST)

    def note(self, found: Sequence[tuple[Key, bytes]]) -> None:
        """Notes what one piece was."""
        if found:
            average = sum([len(encoded) for _, encoded in found]) // len(found) or 1
            self.count = max(1, min(self._most, _GROWTH * self.count, _SLICE_BYTES // average))

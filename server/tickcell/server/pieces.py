"""Long lists in pieces: those that are read, by the size of what came before, and those at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tickcell.server.store.contract import Key

_Item = TypeVar("_Item")

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


def cut(
    items: Sequence[_Item], size_of: Callable[[_Item], int], most: int, most_bytes: int
) -> Iterator[list[_Item]]:
    """Cuts a list into pieces of so many items, and of so many bytes unless one item has more."""
    piece: list[_Item] = []
    free_bytes = most_bytes
    for item in items:
        size = size_of(item)
        if piece and (len(piece) == most or size > free_bytes):
            yield piece
            piece, free_bytes = [], most_bytes
        piece.append(item)
        free_bytes -= size
    if piece:
        yield piece

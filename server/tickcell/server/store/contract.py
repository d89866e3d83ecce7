"""What every store promises: records by key, read together and replaced by compare-and-put."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Change(NamedTuple):
    """Replaces one record, if it still is what the caller read.

    Whole values are compared, not revision numbers: a record that was removed and
    created anew in between can never pass for the old one.

    Attributes:
      key: 1 to 511 bytes that do not start with 0xFF, which no UTF-8 text does.
      expected: what the caller read; None stands for no record.
      replacement: what to store; None removes the record.
    """

    key: bytes
    expected: bytes | None
    replacement: bytes | None


class Store(Protocol):
    """Keeps records; the only holder of state in a server."""

    def load(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Reads records at one moment, in the order of the keys; None where there is none."""
        ...

    def commit(self, changes: Sequence[Change]) -> list[bool]:
        """Applies each change whose record is as expected, all of them at one moment.

        Returns:
          For each change whether it was applied. One that was not leaves the others alone.

        Raises:
          StoreFullError: there is no room for a change that is as expected; nothing was
            applied.
        """
        ...

    def exchange(self, key: bytes, expected: bytes | None, replacement: bytes | None) -> bool:
        """Commits one change, as the fields of `Change` say; returns whether it was applied.

        Raises:
          StoreFullError: there is no room for a change that is as expected; nothing was
            applied.
        """
        ...

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Reads up to `limit` records with keys greater than `after`, in the order of keys."""
        ...

    def count(self) -> int:
        """Counts the records."""
        ...

    def sync(self) -> None:
        """Makes all that was committed survive a power cut."""
        ...

    def close(self) -> None:
        """Syncs for the last time and gives the store back."""
        ...

"""Room that a store keeps for what must go on when the disk or the map is full.

LMDB copies each page that it changes: a deletion, too, needs pages before it frees
any. So new records are refused while there is still room, and the pages kept for
that are allocated on the disk ahead of need. Sessions that exist step on and can be
deleted; only new ones are turned away.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tickcell.server.store.errors import StoreFullError, means_no_room

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping

# 256 pages of 4 KiB: enough copies for a sweep that removes some dozens of records at
# once from a tree of any depth, beside the pages of the two commits before it, which
# cannot be used again yet.
RESERVE_BYTES = 1 << 20


def used_pages(tree: Mapping[str, Any]) -> int:
    """Returns how many pages a tree has, of which LMDB gave the statistics."""
    return int(tree["branch_pages"] + tree["leaf_pages"] + tree["overflow_pages"])


class Room:
    """The pages allocated to a store's file.

    Used only within a write transaction, or by the only process that has the store open:
    where a file system cannot allocate, the C library writes to the file instead.
    """

    def __init__(self, data: pathlib.Path, map_size: int, page_size: int) -> None:
        self._path = data
        self._descriptor = os.open(data, os.O_RDWR | os.O_CLOEXEC)
        self._page_size = page_size
        self._map_pages = map_size // page_size
        disk = os.fstatvfs(self._descriptor)
        # On a tiny disk or map, not all of it.
        smallest = min(map_size, disk.f_blocks * disk.f_frsize)
        self._reserve_pages = min(RESERVE_BYTES, smallest // 8) // page_size
        self._allocated_pages = 0

    def keep(self, used_pages: int) -> None:
        """Sees that beyond the pages in use the reserve is there, and allocates it.

        Raises:
          StoreFullError: it is not, and cannot be had.
        """
        wanted = used_pages + self._reserve_pages
        if wanted <= self._allocated_pages:
            return
        # Another server on the store may have made room.
        self._allocated_pages = os.fstat(self._descriptor).st_size // self._page_size
        if wanted <= self._allocated_pages:
            return
        if wanted > self._map_pages:
            raise StoreFullError(
                f"{self._path}: the store's {self._map_pages * self._page_size} bytes are full; "
                "delete sessions, or let them expire."
            )
        # Rather an eighth more than needed, so that few commits have to come here.
        generous = min(wanted + max(self._reserve_pages, used_pages) // 8, self._map_pages)
        if not (self._allocate(generous) or self._allocate(wanted)):
            raise StoreFullError(
                f"{self._path}: the disk is full; make room on it, or delete sessions."
            )

    def keep_if_possible(self, used_pages: int) -> None:
        """Allocates the reserve where there is room: a restored store comes without it."""
        self._allocate(min(used_pages + self._reserve_pages, self._map_pages))

    def _allocate(self, pages: int) -> bool:
        """Gives the file so many pages; says whether the disk had room for them."""
        # What lies before the start was written, or allocated by an earlier call.
        start, end = self._allocated_pages * self._page_size, pages * self._page_size
        try:
            if start < end:
                os.posix_fallocate(self._descriptor, start, end - start)
        except OSError as error:
            if means_no_room(error):
                return False
            raise
        self._allocated_pages = max(self._allocated_pages, pages)
        return True

    def close(self) -> None:
        """Gives up the file."""
        os.close(self._descriptor)

"""Reads the pages of an LMDB file as bytes, and never through LMDB.

LMDB trusts its file and can abort the process on a damaged one. Here every offset
is checked before it is used, so damage costs a page and not the process. The layout
is that of LMDB 0.9 (data version 1, 64 bit), which this machine's LMDB writes:

    page     pgno u64, pad u16, flags u16, lower u16, upper u16, then u16 offsets of nodes
    node     low u16, high u16, flags u16, key size u16, key, value
             branch: low, high and flags are the child's pgno
             leaf:   low and high are the value's size; the value of a big one is the
                     pgno of its overflow pages
    meta     pages 0 and 1; each commit writes the one its transaction id selects
"""

from __future__ import annotations

import itertools
import os
import struct
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_ORDER = "<" if sys.byteorder == "little" else ">"
_HEADER = struct.Struct(_ORDER + "QHHHH")
_NODE = struct.Struct(_ORDER + "HHHH")
_PGNO = struct.Struct(_ORDER + "Q")
# After the header: magic, version, address, map size, then two trees (pad and page
# size, flags, depth, branch, leaf and overflow pages, entries, root), last pgno, id.
_META = struct.Struct(_ORDER + "IIQQ" + "IHHQQQQQ" * 2 + "QQ")
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 0x01, 0x02, 0x04, 0x08
_BIG_VALUE = 0x01
_PAGE_SIZES = (4096, 8192, 16384, 32768, 2048, 1024, 512)
_NO_ROOT = (1 << 64) - 1
_FIRST_PAGE = 2


class PageError(ValueError):
    """A page does not hold what it should."""


class Meta(NamedTuple):
    """A commit: `entry_count` is that of its tree, `root` None where the tree is empty."""

    transaction_id: int
    entry_count: int
    root: int | None


class Node(NamedTuple):
    """A key of a page with its child's pgno (branch) or its value (leaf).

    `value` is None where the overflow pages that hold it are not there any more.
    """

    key: bytes
    child: int
    value: bytes | None


class Pages:
    """The pages of one file, which nothing may write meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        self.page_size, self.metas = self._read_metas()
        self.count = self._size // self.page_size

    def _read_metas(self) -> tuple[int, list[Meta]]:
        """Returns the page size and the metas that make sense, newest first."""
        for page_size in _PAGE_SIZES:
            metas = [self._read_meta(pgno, page_size) for pgno in (0, 1)]
            sound = [meta for meta in metas if meta is not None]
            if sound:
                return page_size, sorted(sound, key=lambda meta: meta.transaction_id, reverse=True)
        return os.sysconf("SC_PAGE_SIZE"), []

    def _read_meta(self, pgno: int, page_size: int) -> Meta | None:
        encoded = self._read(pgno * page_size, _HEADER.size + _META.size)
        if encoded is None or not _HEADER.unpack_from(encoded)[2] & _META_PAGE:
            return None
        fields = _META.unpack_from(encoded, _HEADER.size)
        magic, version, written_page_size = fields[0], fields[1], fields[4]
        if (magic, version, written_page_size) != (_MAGIC, _VERSION, page_size):
            return None
        entry_count, root = fields[18:20]
        return Meta(fields[21], entry_count, None if root == _NO_ROOT else root)

    def is_leaf(self, pgno: int) -> bool:
        """Says whether a page is a leaf of some tree, this commit's or an earlier one's."""
        page = self._read(pgno * self.page_size, _HEADER.size)
        return page is not None and _HEADER.unpack(page)[:3:2] == (pgno, _LEAF)

    def nodes(self, pgno: int) -> tuple[bool, list[Node]]:
        """Returns whether a page is a leaf, and its nodes in the order of their keys.

        Raises:
          PageError: it is neither branch nor leaf, or not as either must be.
        """
        page = self._read(pgno * self.page_size, self.page_size)
        if pgno < _FIRST_PAGE or page is None:
            raise PageError(f"page {pgno} is not in the file")
        own_pgno, _, flags, lower, upper = _HEADER.unpack_from(page)
        if own_pgno != pgno or flags not in (_BRANCH, _LEAF):
            raise PageError(f"page {pgno} is not a page of a tree")
        if not _HEADER.size <= lower <= upper <= self.page_size:
            raise PageError(f"page {pgno} has impossible bounds")
        count = (lower - _HEADER.size) // 2
        offsets = struct.unpack_from(f"{_ORDER}{count}H", page, _HEADER.size)
        if any(not upper <= offset <= self.page_size - _NODE.size for offset in offsets):
            raise PageError(f"page {pgno} has a node outside its bounds")
        is_leaf = flags == _LEAF
        return is_leaf, [self._node(page, pgno, offset, is_leaf=is_leaf) for offset in offsets]

    def _node(self, page: bytes, pgno: int, offset: int, *, is_leaf: bool) -> Node:
        low, high, flags, key_size = _NODE.unpack_from(page, offset)
        start = offset + _NODE.size + key_size
        key = page[offset + _NODE.size : start]
        if not is_leaf:
            if start > len(page):
                raise PageError(f"page {pgno} has a key that runs over its end")
            return Node(key, low | high << 16 | flags << 32, None)
        size = low | high << 16
        end = start + (_PGNO.size if flags & _BIG_VALUE else size)
        if end > len(page) or flags & ~_BIG_VALUE:
            raise PageError(f"page {pgno} has a node that is no record")
        if flags & _BIG_VALUE:
            return Node(key, 0, self._big_value(_PGNO.unpack_from(page, start)[0], size))
        return Node(key, 0, page[start:end])

    def _big_value(self, pgno: int, size: int) -> bytes | None:
        extent = self._read(pgno * self.page_size, _HEADER.size + size)
        if extent is None or _HEADER.unpack_from(extent)[:3:2] != (pgno, _OVERFLOW):
            return None
        return extent[_HEADER.size :]

    def _read(self, offset: int, size: int) -> bytes | None:
        if offset + size > self._size:
            return None
        self._file.seek(offset)
        return self._file.read(size)


class Lost(NamedTuple):
    """A range of keys that a damaged page cut off; `high` None is the end of all keys."""

    low: bytes
    high: bytes | None
    why: str

    def holds(self, key: bytes) -> bool:
        """Says whether a key may have been among the lost ones."""
        return self.low <= key and (self.high is None or key < self.high)


def walk(pages: Pages) -> Iterator[Node | Lost]:
    """Yields the records of the newest commit in the order of keys, and what is lost.

    The keys of a page must lie within the range that its parents give it: a page that
    is whole but holds what it held long ago does not pass for a part of the tree.
    """
    if not pages.metas:
        yield Lost(b"", None, "both meta pages are damaged")
        return
    root = pages.metas[0].root
    ranges: list[tuple[int, bytes, bytes | None]] = [] if root is None else [(root, b"", None)]
    reached: set[int] = set()
    while ranges:
        pgno, low, high = ranges.pop()
        try:
            if pgno in reached:
                raise PageError(f"page {pgno} is reached twice")
            reached.add(pgno)
            is_leaf, nodes = pages.nodes(pgno)
            # A branch's first key is empty, and stands for the lowest of its range.
            keys = [node.key if is_leaf or index else low for index, node in enumerate(nodes)]
            _check_order(pgno, keys, low, high)
        except PageError as error:
            yield Lost(low, high, str(error))
            continue
        if is_leaf:
            yield from nodes
        else:
            ends = [*keys[1:], high]
            children = [node.child for node in nodes]
            ranges.extend(reversed(list(zip(children, keys, ends, strict=True))))


def _check_order(pgno: int, keys: list[bytes], low: bytes, high: bytes | None) -> None:
    if not keys or keys[0] < low or (high is not None and keys[-1] >= high):
        raise PageError(f"page {pgno} has keys outside its range")
    if any(key >= following for key, following in itertools.pairwise(keys)):
        raise PageError(f"page {pgno} has keys out of order")

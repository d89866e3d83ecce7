"""Records for tests of the store: a version, filling, and a checksum over both."""

from __future__ import annotations

import struct
import zlib

_VERSION = struct.Struct("<q")
_CHECKSUM = struct.Struct("<I")


def encode(version: int, size: int = 400) -> bytes:
    """Returns a record whose filling follows from its version."""
    body = _VERSION.pack(version) * (size // _VERSION.size)
    return body + _CHECKSUM.pack(zlib.crc32(body))


def version(record: bytes) -> int:
    """Returns a record's version; raises ValueError if it is damaged."""
    end = len(record) - _CHECKSUM.size
    if end < _VERSION.size or _CHECKSUM.unpack_from(record, end)[0] != zlib.crc32(record[:end]):
        raise ValueError("the checksum does not match")
    (number,) = _VERSION.unpack_from(record)
    return int(number)

"""Records for tests of the store: a version, filling, and a checksum over both and the key."""

from __future__ import annotations

import struct
import zlib

from tickcell.server.store import Change, Key

_VERSION = struct.Struct("<q")
_CHECKSUM = struct.Struct("<I")


def key(name: int | str) -> Key:
    """Returns a key: of a number, one of six digits."""
    return Key("", name if isinstance(name, str) else f"{name:06}")


def encode(of: Key, version: int, size: int = 400, writer: int = 0) -> bytes:
    """Returns a record whose filling follows from its version, and from who wrote it."""
    body = _VERSION.pack(version) * (size // _VERSION.size) + _VERSION.pack(writer)
    return body + _CHECKSUM.pack(_checksum(of, body))


def version(of: Key, record: bytes) -> int:
    """Returns a record's version; raises ValueError if it is damaged, or another session's."""
    complaint = problem(of, record)
    if complaint is not None:
        raise ValueError(complaint)
    (number,) = _VERSION.unpack_from(record)
    return int(number)


def problem(of: Key, record: bytes) -> str | None:
    """Returns what is wrong with a record, if anything."""
    end = len(record) - _CHECKSUM.size
    if end < _VERSION.size:
        return "it is too short"
    if _CHECKSUM.unpack_from(record, end)[0] != _checksum(of, record[:end]):
        return "the checksum does not match"
    return None


def step(of: Key, old: bytes | None, size: int = 400, writer: int = 0) -> Change:
    """Returns the change of a record to its next version, or its creation."""
    next_version = 1 if old is None else version(of, old) + 1
    return Change(of, old, encode(of, next_version, size, writer))


def _checksum(of: Key, body: bytes) -> int:
    return zlib.crc32("\0".join(of).encode() + body)

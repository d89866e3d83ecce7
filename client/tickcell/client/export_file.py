"""A session's export as a file: bytes to message, and back. Pure.

    magic      b"tickcell session", 16 bytes
    version    of this layout, 32 bits
    length     of the message, 32 bits
    checksum   CRC-32 of the message, 32 bits
    message    a `SessionExport`, encoded

Numbers are little-endian. What the message holds has a format version of its own, which
the server reads.
"""

from __future__ import annotations

import struct
import zlib

from google.protobuf.message import DecodeError

from tickcell.client import errors
from tickcell.v1 import session_service_pb2 as pb

VERSION = 1

_MAGIC = b"tickcell session"
_HEAD = struct.Struct("<16sIII")


def encode(export: pb.SessionExport) -> bytes:
    """Returns the bytes of a file that holds an export."""
    message = export.SerializeToString(deterministic=True)
    return _HEAD.pack(_MAGIC, VERSION, len(message), zlib.crc32(message)) + message


def decode(content: bytes) -> pb.SessionExport:
    """Returns the export that a file holds.

    Raises:
      ExportFileNewerError: a newer tickcell wrote it, in a layout that is not read here.
      ExportFileError: it is cut off, damaged or no such file.
    """
    if len(content) < _HEAD.size or not content.startswith(_MAGIC):
        raise errors.ExportFileError(
            f"got {len(content)} bytes that begin with {content[:16]!r}, expected the file of a "
            "session, as 'tickcell sessions export' writes it."
        )
    _, version, length, checksum = _HEAD.unpack_from(content)
    if version > VERSION:
        raise errors.ExportFileNewerError(
            f"the file has version {version}, and this tickcell reads up to {VERSION}; read it "
            "with a newer one."
        )
    message = content[_HEAD.size :]
    if len(message) != length:
        raise errors.ExportFileError(
            f"got {len(message)} bytes after the head, expected {length}: the file was cut off, "
            "or something was added; copy it again."
        )
    if version < 1 or zlib.crc32(message) != checksum:
        raise errors.ExportFileError(
            "the file does not match its checksum: it was damaged; copy it again."
        )
    try:
        return pb.SessionExport.FromString(message)
    except DecodeError as error:
        raise errors.ExportFileError(f"the file holds no export: {error}.") from error

"""The files of a recorder: written by the library of MCAP, one after the other, and bounded.

A file that is being written is locked, so that nobody removes it. Chunks are compressed and
written several times a second, and an unfinished file keeps all but the last.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import importlib.metadata
import os
import pathlib
import secrets
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2

from tickcell.model import extras
from tickcell.v1 import flight_recording_pb2 as pb

if TYPE_CHECKING:
    from mcap.writer import Writer

    from tickcell.server.store.contract import Key

FORMAT_VERSION = 1
METADATA = "tickcell.flight"
PATTERN = "tickcell-*.mcap"
EXTRA = "record"

# Of one file, at most. The directory's limit is kept by whole files.
_FILE_BYTES = 256 * 1024 * 1024
_FILES_WITHIN_LIMIT = 8
# Before compression.
_CHUNK_BYTES = 64 * 1024
# Two channels each; a file has 65,535 at most.
_FILE_SESSIONS = 30_000


class RecorderError(Exception):
    """There is no directory in which a recorder could write."""


class FlightFile:
    """One file, from its beginning to its end.

    Every method but `abandon` may raise OSError; then nothing more is to be written to it.

    Attributes:
      path: where it is.
      size: its bytes by now.
    """

    def __init__(
        self, directory: pathlib.Path, about: dict[str, str], most_bytes: int = _FILE_BYTES
    ) -> None:
        writer = extras.load("mcap.writer", extra=EXTRA)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.path = directory / f"tickcell-{now}-{secrets.token_hex(3)}.mcap"
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._most_bytes = most_bytes
        self._channels: dict[Key, tuple[int, int]] = {}
        # All of a file up to here is whole: what comes after is cut off where writing fails.
        self._whole_size = self.size = 0
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            library = f"tickcell {importlib.metadata.version('tickcell')}"
            self._writer: Writer = writer.Writer(self, chunk_size=_CHUNK_BYTES)
            self._writer.start(library=library)
            self._writer.add_metadata(METADATA, {"format_version": str(FORMAT_VERSION), **about})
            self._schemas = [self._schema(each) for each in (pb.FlightSteps, pb.FlightEvent)]
            self.sync()
        except OSError:
            self.abandon()
            raise

    @property
    def is_full(self) -> bool:
        """Whether another one should be begun."""
        return self.size >= self._most_bytes or len(self._channels) >= _FILE_SESSIONS

    def steps(self, key: Key, wall_ns: int, message: bytes) -> None:
        """Writes a FlightSteps of a session."""
        self._writer.add_message(self._of(key)[0], wall_ns, message, wall_ns)

    def event(self, key: Key, wall_ns: int, message: bytes) -> None:
        """Writes a FlightEvent of a session."""
        self._writer.add_message(self._of(key)[1], wall_ns, message, wall_ns)

    def sync(self) -> None:
        """Hands all that was written to the operating system, and not to the disk."""
        self._writer.flush()
        self._whole_size = self.size

    def finish(self) -> None:
        """Writes the summary, and closes the file; one that says nothing is removed."""
        self._writer.finish()
        os.close(self._descriptor)
        if not self._channels:
            self.path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Closes a file that could not be written, without what was not written whole."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self._whole_size)
        os.close(self._descriptor)
        if self._whole_size == 0:
            self.path.unlink(missing_ok=True)

    # What the library writes to.

    def write(self, data: bytes) -> int:
        """Writes all of it."""
        rest = memoryview(data)
        while rest:
            written = os.write(self._descriptor, rest)
            self.size += written
            rest = rest[written:]
        return len(data)

    def tell(self) -> int:
        """Returns where it writes next."""
        return self.size

    def flush(self) -> None:
        """Has nothing to do: `write` keeps nothing back."""

    def _of(self, key: Key) -> tuple[int, int]:
        """Returns the channels of a session."""
        channels = self._channels.get(key)
        if channels is None:
            owner, session = key
            metadata = {"owner": owner, "session": session}
            steps, event = (
                self._writer.register_channel(
                    "/".join(("", *filter(None, key), kind)), "protobuf", schema, metadata
                )
                for kind, schema in zip(("steps", "events"), self._schemas, strict=True)
            )
            channels = self._channels[key] = steps, event
        return channels

    def _schema(self, message: type[pb.FlightSteps] | type[pb.FlightEvent]) -> int:
        descriptor: Any = message.DESCRIPTOR
        described = descriptor_pb2.FileDescriptorSet()
        descriptor.file.CopyToProto(described.file.add())
        schema: int = self._writer.register_schema(
            descriptor.full_name, "protobuf", described.SerializeToString()
        )
        return schema


class FlightFiles:
    """All files of a directory, of this server and of others.

    Attributes:
      directory: where they are.
    """

    def __init__(self, directory: pathlib.Path, limit_bytes: int, about: dict[str, str]) -> None:
        """Takes a directory, which is made once a file is begun.

        Args:
          directory: of the files.
          limit_bytes: what all of them may take; the oldest go first.
          about: what a file says of its server.
        """
        self.directory = directory
        self._limit_bytes = limit_bytes
        self._about = about
        self._file_bytes = min(_FILE_BYTES, limit_bytes // _FILES_WITHIN_LIMIT)

    def begin(self) -> FlightFile:
        """Begins a file, once there is room for one.

        Raises:
          OSError: it cannot be written.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room()
        return FlightFile(self.directory, self._about, self._file_bytes)

    def _make_room(self) -> None:
        """Removes the oldest files, until another one fits within the limit."""
        sizes = {}
        for path in sorted(self.directory.glob(PATTERN)):
            # One of another server may go meanwhile.
            with contextlib.suppress(FileNotFoundError):
                sizes[path] = path.stat().st_size
        surplus = sum(sizes.values()) + self._file_bytes - self._limit_bytes
        for path, size in sizes.items():
            if surplus <= 0:
                return
            if _is_finished(path):
                path.unlink(missing_ok=True)
                surplus -= size


def _is_finished(path: pathlib.Path) -> bool:
    """Says whether no server writes to a file, as far as it may be touched."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except (FileNotFoundError, PermissionError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True

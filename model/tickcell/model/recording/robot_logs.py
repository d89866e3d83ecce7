"""Messages of a robot's log, by topic: ROS 1 and ROS 2 bags, and MCAP of JSON."""

from __future__ import annotations

import json
import pathlib
import sqlite3
import struct
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from tickcell.model import extras
from tickcell.model.recording.errors import RecordingError, ended

_EXTRA = "bags"


class Message(NamedTuple):
    """One message of a log.

    Attributes:
      topic: it was sent on.
      log_ns: when it was written down, in nanoseconds.
      content: its fields: attributes of an object, or JSON.
    """

    topic: str
    log_ns: int
    content: Any


class RobotLog(Protocol):
    """Messages by topic, in the order in which they were written down."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How many messages there are on each topic."""

    def messages(self, topics: Sequence[str]) -> Iterator[Message]:
        """Yields the messages of some topics.

        Raises:
          RecordingError: the log is damaged, or a message cannot be read.
        """

    def notes(self) -> Iterator[str]:
        """Yields what was assumed of the log, as sentences."""


def open_log(path: pathlib.Path) -> RobotLog:
    """Opens a bag: a directory of ROS 2, .db3, .mcap, or .bag of ROS 1.

    Raises:
      RecordingError: it cannot be read.
      MissingExtraError: the extra "bags" is not installed.
    """
    path.stat()  # What is not there is told as it is of any file.
    if path.suffix.lower() == ".mcap":
        log = _JsonLog(path)
        if log.is_json:
            return log
    return _RosLog(path)


class _RosLog:
    """A bag of ROS 1 or ROS 2."""

    def __init__(self, path: pathlib.Path) -> None:
        """Reads the topics and the types of their messages."""
        highlevel = extras.load("rosbags.highlevel", extra=_EXTRA)
        typesys = extras.load("rosbags.typesys", extra=_EXTRA)
        errors = [extras.load(f"rosbags.rosbag{version}", extra=_EXTRA) for version in (1, 2)]
        self._path = path
        self._errors = (
            highlevel.AnyReaderError,
            typesys.TypesysError,
            *(module.ReaderError for module in errors),
            sqlite3.Error,
        )
        # For bags that do not say what their messages are made of, such as older .db3 files.
        is_old = path.suffix.lower() == ".bag"
        store = typesys.Stores.ROS1_NOETIC if is_old else typesys.Stores.LATEST
        try:
            self._reader = highlevel.AnyReader(
                [path], default_typestore=typesys.get_typestore(store)
            )
            self._reader.open()
        except self._errors as error:
            raise self._damaged(error) from error
        # Its messages are read by generators, which may be left at any time.
        weakref.finalize(self, self._reader.close)
        self._has_types = any(connection.msgdef.data for connection in self._reader.connections)
        self.counts = {topic: info.msgcount for topic, info in self._reader.topics.items()}

    def messages(self, topics: Sequence[str]) -> Iterator[Message]:
        connections = [one for one in self._reader.connections if one.topic in topics]
        try:
            for connection, log_ns, raw in self._reader.messages(connections):
                content = self._reader.deserialize(raw, connection.msgtype)
                yield Message(connection.topic, log_ns, content)
        except self._errors as error:
            raise self._damaged(error) from error

    def notes(self) -> Iterator[str]:
        if not self._has_types:
            yield "does not define its messages; taken to be the standard types of ROS"

    def _damaged(self, error: Exception) -> RecordingError:
        return RecordingError(
            f"{self._path}: cannot be read as a ROS bag: {ended(error)} Repair a bag that was not "
            "closed with 'ros2 bag reindex', 'rosbag reindex' for ROS 1, or 'mcap recover'."
        )


class _JsonLog:
    """An MCAP of JSON messages.

    Attributes:
      is_json: whether it has such messages.
    """

    def __init__(self, path: pathlib.Path) -> None:
        """Reads the topics; one that was cut off is read as far as it goes."""
        self._reader = extras.load("mcap.reader", extra=_EXTRA)
        errors = extras.load("mcap.exceptions", extra=_EXTRA)
        # The last two are what it raises of a file that is shorter than it says.
        self._errors = (errors.McapError, EOFError, ValueError, OSError, struct.error)
        self._path = path
        self._is_whole = True
        self.counts: dict[str, int] = {}
        self.is_json = False
        with path.open("rb") as stream:
            try:
                summary = self._reader.make_reader(stream).get_summary()
            except self._errors:
                summary = None
        if summary is None or summary.statistics is None:
            self._count()
            return
        counts = summary.statistics.channel_message_counts
        for number, channel in summary.channels.items():
            if channel.message_encoding == "json":
                self.is_json = True
                known = self.counts.get(channel.topic, 0)
                self.counts[channel.topic] = known + counts.get(number, 0)

    def messages(self, topics: Sequence[str]) -> Iterator[Message]:
        for channel, message in self._raw(topics):
            if channel.message_encoding != "json":
                continue
            try:
                content = json.loads(message.data)
            except ValueError as error:
                raise RecordingError(
                    f"{self._path}: topic {channel.topic}: message {message.sequence} is not "
                    f"JSON: {error}."
                ) from error
            yield Message(channel.topic, message.log_time, content)

    def notes(self) -> Iterator[str]:
        if not self._is_whole:
            yield "is truncated; read as far as it goes"

    def _count(self) -> None:
        """Counts the messages of a file that does not say how many it has."""
        self._is_whole = False
        for channel, _ in self._raw(None):
            if channel.message_encoding == "json":
                self.is_json = True
                self.counts[channel.topic] = self.counts.get(channel.topic, 0) + 1

    def _raw(self, topics: Sequence[str] | None) -> Iterator[tuple[Any, Any]]:
        with self._path.open("rb") as stream:
            if self._is_whole:
                reader = self._reader.make_reader(stream)
                found = reader.iter_messages(topics)
            else:
                reader = self._reader.NonSeekingReader(stream)
                found = reader.iter_messages(topics, log_time_order=False)
            try:
                yield from ((channel, message) for _, channel, message in found)
            except self._errors as error:
                if self._is_whole:
                    raise RecordingError(f"{self._path}: is damaged: {ended(error)}") from error

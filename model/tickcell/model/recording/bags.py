"""Tables of robots' logs: a row for each message of the topic that gives the ticks.

A column is a topic and a field of its messages: `/imu/data.angular_velocity.z`. What comes on
other topics than the clock's is held until its next message.
"""

from __future__ import annotations

import itertools
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tickcell.model.recording.errors import RecordingError
from tickcell.model.recording.layout import NO_TIMES, Layout
from tickcell.model.recording.robot_logs import Message, open_log
from tickcell.model.recording.table import BATCH_ROWS, SAMPLE_ROWS, Batch, Chosen, Table, listed

_STAMP = "header.stamp"
_LOG_TIME = "log_time"
_NS = 10**9


class BagTable(Table):
    """Rows of a robot's log."""

    row = "message"
    column = "topic"

    def __init__(self, path: pathlib.Path, wanted: Sequence[str], layout: Layout) -> None:
        """Finds the topics of the columns, and the one that gives the ticks.

        Raises:
          RecordingError: the log cannot be read, or lacks a topic or field.
          MissingExtraError: the extra "bags" is not installed.
          OSError: it cannot be opened.
        """
        super().__init__(str(path))
        self._log = open_log(path)
        counts = self._log.counts
        fields = {name: self._field(name, f"--source {name}") for name in wanted}
        for name, option in ((layout.label, "--label"), (layout.time, "--time")):
            if name and name not in (NO_TIMES, _STAMP, _LOG_TIME):
                fields[name] = self._field(name, option)
        self._fields = fields
        self._topics = tuple(dict.fromkeys(topic for topic, _ in fields.values()))
        self._clock = self._clock_topic(layout.clock_topic)
        self._is_clock_given = layout.clock_topic is not None
        first = next(self._log.messages([self._clock]), None)
        if first is None:
            raise RecordingError(f"{path}: topic {self._clock}: has no messages to be the ticks.")
        stamps = [_STAMP] if _stamp(first.content) is not None else []
        times = [*stamps, _LOG_TIME]
        self.time_columns = dict.fromkeys(times, "ns")
        self.names = (*fields, *times)
        self.unread = [topic for topic in counts if topic not in self._topics]
        self.expected_length = counts[self._clock]
        self._ages_s: dict[str, float] = {}
        self._passed_over = 0

    def sample(self, column: int) -> list[Any]:
        name = self.names[column]
        topic = self._topic_of(name)
        messages = itertools.islice(self._log.messages([topic]), SAMPLE_ROWS)
        return [self._value(name, {topic: message}) for message in messages]

    def batches(self, chosen: Chosen) -> Iterator[Batch]:
        sensors = [self.names[column] for column in chosen.sensors]
        time = None if chosen.time is None else self.names[chosen.time]
        label = None if chosen.label is None else self.names[chosen.label]
        rows: list[int] = []
        readings, times, labels = [], [], []
        for number, held in self._ticks():
            rows.append(number)
            readings.append([self._reading(name, held) for name in sensors])
            if time is not None:
                times.append(self._value(time, held))
            if label is not None:
                labels.append(self._value(label, held))
            if len(rows) == BATCH_ROWS:
                yield self._batch(rows, readings, times, labels, chosen)
                rows, readings, times, labels = [], [], [], []
        if rows:
            yield self._batch(rows, readings, times, labels, chosen)

    def notes(self) -> Iterator[str]:
        yield from self._log.notes()
        if not self._is_clock_given:
            yield f"ticks: the messages of {self._clock} (--clock-topic names another)"
        if self._passed_over:
            yield f"ticks skipped before all topics had begun: {self._passed_over}"
        for topic, age_s in self._ages_s.items():
            yield f"{topic}: held for up to {age_s:.3g} s"

    def _ticks(self) -> Iterator[tuple[int, Mapping[str, Message]]]:
        """Yields the number of each tick, and the last message of each topic at it."""
        held: dict[str, Message] = {}
        number = 0
        for message in self._log.messages(self._topics):
            held[message.topic] = message
            if message.topic != self._clock:
                continue
            number += 1
            if len(held) < len(self._topics):
                self._passed_over += 1
                continue
            for topic, last in held.items():
                if topic != self._clock:
                    age_s = (message.log_ns - last.log_ns) / _NS
                    self._ages_s[topic] = max(self._ages_s.get(topic, 0.0), age_s)
            yield number, held
        if not number or self._passed_over == number:
            missing = [topic for topic in self._topics if topic not in held]
            raise RecordingError(
                f"{self.source}: topic {listed(missing)}: has no messages before the last tick."
            )

    def _batch(
        self,
        rows: list[int],
        readings: list[Any],
        times: list[Any],
        labels: list[Any],
        chosen: Chosen,
    ) -> Batch:
        return Batch(
            rows,
            np.array(readings, np.float64).reshape(-1, len(chosen.sensors)),
            None if chosen.time is None else times,
            None if chosen.label is None else labels,
        )

    def _clock_topic(self, asked: str | None) -> str:
        if asked is None:
            # The one that comes most often, so that nothing of it is left out.
            return max(self._topics, key=lambda topic: self._log.counts[topic])
        if asked not in self._log.counts:
            raise RecordingError(
                f"{self.source}: no topic is named {asked!r} (--clock-topic); the topics are "
                f"{listed([*self._log.counts])}."
            )
        if asked not in self._topics:
            self._topics = (*self._topics, asked)
        return asked

    def _field(self, name: str, option: str) -> tuple[str, tuple[str, ...]]:
        """Returns the topic of a column, and the way to its field; an option names it."""
        found = [topic for topic in self._log.counts if name.startswith(f"{topic}.")]
        topic = max(found, key=len, default=None)
        if topic is None:
            raise RecordingError(
                f"{self.source}: {name!r} is not a topic and field; the topics are "
                f"{listed([*self._log.counts])}. Name the field with {option}, such as "
                "/imu.angular_velocity.z."
            )
        way = tuple(name[len(topic) + 1 :].split("."))
        for message in self._log.messages([topic]):
            _find(message.content, way, f"{self.source}: topic {topic}")
            break
        return topic, way

    def _topic_of(self, name: str) -> str:
        """Returns the topic whose messages have a column."""
        return self._clock if name in self.time_columns else self._fields[name][0]

    def _value(self, name: str, held: Mapping[str, Message]) -> Any:
        """Returns what a column has, of the last message of each topic."""
        message = held[self._topic_of(name)]
        if name == _LOG_TIME:
            return message.log_ns
        if name == _STAMP:
            return _stamp(message.content)
        place = f"{self.source}: topic {message.topic}"
        return _find(message.content, self._fields[name][1], place)

    def _reading(self, name: str, held: Mapping[str, Message]) -> float:
        value = self._value(name, held)
        if value is None:
            return math.nan
        try:
            return float(value)
        except (TypeError, ValueError):
            raise RecordingError(
                f"{self.source}: {name}: got {str(value)[:40]!r}, expected a number."
            ) from None


def _find(content: Any, way: Sequence[str], place: str) -> Any:
    """Returns a field of a message; None where JSON has null on the way.

    Raises:
      RecordingError: there is no such field; the message names those that there are.
    """
    for depth, name in enumerate(way):
        if content is None:
            return None
        found, names = _part(content, name)
        if not found:
            raise RecordingError(
                f"{place}: has no field {'.'.join(way[: depth + 1])!r}; the fields there are "
                f"{listed(names)}."
            )
        content = found[0]
    return content


def _part(content: Any, name: str) -> tuple[list[Any], list[str]]:
    """Returns the part of that name, if there is one, and the names of all parts."""
    if isinstance(content, dict):
        return ([content[name]] if name in content else []), [*content]
    if isinstance(content, list | tuple | np.ndarray):
        is_there = name.isdecimal() and int(name) < len(content)
        return ([content[int(name)]] if is_there else []), [f"0 to {len(content) - 1}"]
    names = [field for field in getattr(content, "__dataclass_fields__", {}) if field[0] != "_"]
    return ([getattr(content, name)] if name in names else []), names


def _stamp(content: Any) -> int | None:
    """Returns the time in a message's header in nanoseconds; None where it has none."""
    for name in ("header", "stamp"):
        found, _ = _part(content, name)
        if not found:
            return None
        content = found[0]
    for seconds, rest in (("sec", "nanosec"), ("secs", "nsecs"), ("sec", "nsec")):
        (whole, _), (part, _) = _part(content, seconds), _part(content, rest)
        if whole and part:
            return int(whole[0]) * _NS + int(part[0])
    return None

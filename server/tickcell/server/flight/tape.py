"""What is written of sessions: their steps where these follow on, and else their state first."""

from __future__ import annotations

import collections
import logging
from typing import TYPE_CHECKING

from tickcell.server.flight import messages
from tickcell.server.flight.messages import Position

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tickcell.server.flight.files import FlightFile, FlightFiles
    from tickcell.server.flight.messages import Applied, Changed
    from tickcell.server.store.contract import Key

# How often what was written is handed to the operating system, which keeps it through a kill.
_SYNC_S = 0.2
# After files could not be written.
_RETRY_S = 1.0
# Of so many sessions it is known how many steps were dropped of each.
_MOST_DROPPED = 100_000

_log = logging.getLogger(__name__)


class Tape:
    """Writes to one file after the other; used by one thread.

    Attributes:
      written_steps: that are in files.
      dropped_steps: that are in none, since files could not be written.
      written_bytes: of all files.
      failures: how often files could not be written.
    """

    def __init__(self, files: FlightFiles, clock_s: Callable[[], float]) -> None:
        self.written_steps = self.dropped_steps = self.failures = 0
        self._files = files
        self._clock_s = clock_s
        self._finished_bytes = 0
        # Where each session stands by what is in the file.
        self._ends: dict[Key, Position] = {}
        # Steps of a session that are in no file, since its last message.
        self._dropped: dict[Key, int] = {}
        # Steps that are written, and dropped ones of which it is written that they were; which
        # may not have reached the operating system.
        self._unsynced: collections.Counter[Key] = collections.Counter()
        self._unsynced_drops: collections.Counter[Key] = collections.Counter()
        self._is_failing = False
        self._file: FlightFile | None = files.begin()
        self._due_s = clock_s() + _SYNC_S

    @property
    def written_bytes(self) -> int:
        return self._finished_bytes + (0 if self._file is None else self._file.size)

    def steps(self, item: Applied) -> None:
        """Writes steps, after their state where what is in the file does not lead to it."""
        file = self._ready()
        if file is None:
            self._drop(item.key, item.step_count)
            return
        key, before = item.key, item.begun.record
        try:
            if self._ends.get(key) != Position.of(before):
                found = messages.found(before, self._dropped.get(key, 0))
                file.event(key, item.wall_ns, found)
                self._said_dropped(key)
            file.steps(key, item.wall_ns, item.message())
        except OSError as error:
            self._drop(key, item.step_count)
            self._fail(error)
            return
        self._ends[key] = item.position
        self._unsynced[key] += item.step_count

    def event(self, item: Changed) -> None:
        """Writes a change of a life."""
        file = self._ready()
        if file is None:
            return
        key = item.key
        try:
            file.event(key, item.wall_ns, item.message(self._dropped.get(key, 0)))
        except OSError as error:
            self._fail(error)
            return
        self._said_dropped(key)
        if item.has_ended:
            self._ends.pop(key, None)
        else:
            self._ends[key] = Position.of(item.record)

    def lose(self, late: Mapping[Key, int]) -> None:
        """Notes steps that were dropped elsewhere."""
        for key, count in late.items():
            self._note_dropped(key, count)

    def keep_up(self) -> None:
        """Hands over to the operating system what is due."""
        if self._file is None or self._clock_s() < self._due_s:
            return
        try:
            self._sync(self._file)
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Finishes the file."""
        if self._file is not None:
            try:
                self._finish(self._file)
            except OSError as error:
                self._fail(error)

    def _ready(self) -> FlightFile | None:
        """Returns the file to write to; None while none can be written."""
        if self._file is not None and self._file.is_full:
            try:
                self._finish(self._file)
            except OSError as error:
                self._fail(error)
        if self._file is None and self._clock_s() >= self._due_s:
            try:
                self._file = self._files.begin()
            except OSError as error:
                self._fail(error)
            else:
                self._due_s = self._clock_s() + _SYNC_S
                if self._is_failing:
                    self._is_failing = False
                    _log.warning("the flight recorder writes again: %s", self._file.path)
        return self._file

    def _sync(self, file: FlightFile) -> None:
        file.sync()
        self.written_steps += self._unsynced.total()
        self._unsynced.clear()
        self._unsynced_drops.clear()
        self._due_s = self._clock_s() + _SYNC_S

    def _finish(self, file: FlightFile) -> None:
        self._sync(file)
        file.finish()
        self._finished_bytes += file.size
        # Each file can be run again by itself.
        self._ends.clear()
        self._file = None
        self._due_s = self._clock_s()

    def _fail(self, error: OSError) -> None:
        self.failures += 1
        if not self._is_failing:
            self._is_failing = True
            _log.error("the flight recorder cannot write, and drops steps: %s", error)
        if self._file is not None:
            self._file.abandon()
            self._finished_bytes += self._file.size
            self._file = None
        self._due_s = self._clock_s() + _RETRY_S
        self._ends.clear()
        lost, unsaid = self._unsynced.copy(), self._unsynced_drops.copy()
        self._unsynced.clear()
        self._unsynced_drops.clear()
        for key, count in lost.items():
            self._drop(key, count)
        self.lose(unsaid)

    def _drop(self, key: Key, count: int) -> None:
        self.dropped_steps += count
        self._note_dropped(key, count)

    def _said_dropped(self, key: Key) -> None:
        count = self._dropped.pop(key, 0)
        if count:
            self._unsynced_drops[key] += count

    def _note_dropped(self, key: Key, count: int) -> None:
        # What is in the file does not lead on.
        self._ends.pop(key, None)
        if key in self._dropped or len(self._dropped) < _MOST_DROPPED:
            self._dropped[key] = self._dropped.get(key, 0) + count

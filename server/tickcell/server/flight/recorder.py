"""The flight recorder: hears what rounds applied, and has a thread that writes it to files.

    driver -> Recorder.applied -> queue | thread: Tape -> FlightFile

Nothing waits for it. It hears of a round once the answers are on their way. Where it is
behind, or its files cannot be written, it drops steps, counts them, and goes on with the
session's state. So what it writes can be computed again wherever it begins.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from typing import TYPE_CHECKING

from tickcell.server.computing import Begun
from tickcell.server.flight import messages
from tickcell.server.flight.files import FlightFiles, RecorderError
from tickcell.server.flight.messages import Applied, Changed
from tickcell.server.flight.tape import Tape
from tickcell.server.rounds import Stepped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tickcell.server.config import Config
    from tickcell.server.rounds import Answers, Computed, Request
    from tickcell.server.store.contract import Key

# What may wait to be written: some seconds of a busy server.
_QUEUE_BYTES = 64 * 1024 * 1024
_PERIOD_S = 0.1
# So many are written at once, in some 0.2 ms; then the event loop has the interpreter again.
_BATCH = 16
_PAUSE_S = 0.0005

_log = logging.getLogger(__name__)


class Recorder:
    """Writes what a server applies.

    Attributes:
      tape: what is written, and how much was.
      late_steps: that were dropped since the thread was behind.
    """

    def __init__(self, files: FlightFiles, queue_bytes: int = _QUEUE_BYTES) -> None:
        """Begins a file.

        Raises:
          RecorderError: none can be written.
          MissingExtraError: the extra "record" is not installed.
        """
        try:
            self.tape = Tape(files, time.monotonic)
        except OSError as error:
            raise RecorderError(
                f"--record: {files.directory} cannot be written: {error.strerror}."
            ) from error
        self.late_steps = 0
        self._queue_bytes = queue_bytes
        self._queue: collections.deque[Applied | Changed | Mapping[Key, int]] = collections.deque()
        # Each is changed by one thread alone.
        self._entered_bytes = self._left_bytes = 0
        self._late: dict[Key, int] = {}
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flight recorder", daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, config: Config, store_id: str) -> Recorder | None:
        """Returns the recorder that a configuration asks for; None for none.

        Raises:
          RecorderError, MissingExtraError: it cannot be had.
        """
        if config.record is None:
            return None
        limit_bytes = round(config.record_limit_gb * 1e9)
        return cls(FlightFiles(config.record, limit_bytes, {"store": store_id}))

    @property
    def dropped_steps(self) -> int:
        """Steps that were applied and are in no file."""
        return self.late_steps + self.tape.dropped_steps

    def applied(
        self,
        begun: Sequence[Begun | Computed],
        requests: Sequence[Request],
        answers: Answers,
        wall_ns: int,
    ) -> None:
        """Hears what became of a round; in the event loop, in the order of the commits.

        Args:
          begun: what was computed and committed together.
          requests: of each.
          answers: what is answered.
          wall_ns: when, in nanoseconds since 1970.
        """
        answered = dict(answers)
        for item, request in zip(begun, requests, strict=True):
            answer = answered.get(item.key)
            if isinstance(item, Begun):
                if isinstance(answer, Stepped):
                    self._enter(Applied(item, answer.outputs))
            elif answer is item.answer:
                changed = messages.changed(request, item, wall_ns)
                if changed is not None:
                    self._enter(changed)

    def close(self) -> None:
        """Writes what has come, and finishes the file."""
        self._hand_over_late()
        self._is_stopping.set()
        self._thread.join()

    def _enter(self, item: Applied | Changed) -> None:
        size = item.size
        if self._entered_bytes - self._left_bytes + size > self._queue_bytes:
            if not self._late:
                _log.warning("the flight recorder is behind, and drops steps")
            self._late[item.key] = self._late.get(item.key, 0) + item.step_count
            self.late_steps += item.step_count
            return
        self._hand_over_late()
        self._queue.append(item)
        self._entered_bytes += size

    def _hand_over_late(self) -> None:
        if self._late:
            self._queue.append(self._late)
            self._late = {}

    # The thread.

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._is_stopping.wait(_PERIOD_S)
            self._write_what_came()
        self.tape.close()

    def _write_what_came(self) -> None:
        count = 0
        while self._queue:
            self._write(self._queue.popleft())
            count += 1
            if count % _BATCH == 0:
                time.sleep(_PAUSE_S)
        self.tape.keep_up()

    def _write(self, item: Applied | Changed | Mapping[Key, int]) -> None:
        if not isinstance(item, Applied | Changed):
            self.tape.lose(item)
            return
        try:
            if isinstance(item, Applied):
                self.tape.steps(item)
            else:
                self.tape.event(item)
        except Exception:  # noqa: BLE001 - the edge: logged; sessions and recorder go on.
            _log.exception("%s: could not be written", item.key.session)
            self.tape.lose({item.key: item.step_count})
        finally:
            self._left_bytes += item.size

"""A worker's end of the link to its parent.

The link is a pair of sockets, of which each process has one. What goes over it are lines
of JSON: the parent asks, and the worker answers, from a thread, so that its parent hears
also that its event loop stands still. When the parent is gone, however it went, the
kernel closes its end, and the worker ends by itself.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

# Beyond the grace: for the last calls, and for a loop that is only slow.
_MARGIN_S = 5.0

_log = logging.getLogger(__name__)


class Report(NamedTuple):
    """How a worker fares.

    Attributes:
      silent_s: for how long its event loop has shown no sign of life.
      is_serving: whether it takes requests, and its store takes commits.
      metrics: in Prometheus's text format; "" where they were not asked for.
    """

    silent_s: float
    is_serving: bool
    metrics: str


class Link:
    """Tells the parent what becomes of this worker."""

    def __init__(self, descriptor: int, grace_s: float) -> None:
        """Takes a socket over, and ends this process when there is no parent any more.

        Args:
          descriptor: of the socket.
          grace_s: how long a drain may take.
        """
        self._socket = socket.socket(fileno=descriptor)
        self._grace_s = grace_s
        self._report: Callable[[bool], Report] | None = None
        # An answer and the last words come from two threads.
        self._sending = threading.Lock()
        threading.Thread(target=self._answer, name="link", daemon=True).start()

    def serves(self, banner: str, report: Callable[[bool], Report]) -> None:
        """Says that this worker serves.

        Args:
          banner: what a person should know.
          report: tells, from any thread, how it fares; with metrics or without.
        """
        self._report = report
        self._send(banner=banner)

    def complain(self, complaint: str) -> None:
        """Says why this worker does not serve."""
        self._send(complaint=complaint)

    def stopped(self) -> None:
        """Hands over what was counted, since nothing more will be."""
        if self._report is not None:
            self._send(number=0, report=self._report(True))

    def _answer(self) -> None:
        # A parent that goes with an answer unread resets the link.
        with contextlib.suppress(ConnectionResetError), self._socket.makefile("rb") as asked:
            for line in asked:
                self._answer_one(json.loads(line))
        # As if the parent had said so; a worker that does not even serve yet is ended by it.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._grace_s + _MARGIN_S)
        os._exit(1)

    def _answer_one(self, question: dict[str, Any]) -> None:
        if self._report is None:
            return
        try:
            report = self._report(question["metrics"])
        except Exception:  # noqa: BLE001 - the edge: logged here; the parent takes it for silence.
            _log.exception("a report failed")
        else:
            self._send(number=question["number"], report=report)

    def _send(self, **message: Any) -> None:
        # A parent that is gone needs no answer, and `_answer` hears of it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError), self._sending:
            self._socket.sendall(json.dumps(message).encode() + b"\n")

"""A worker as its parent sees it: a process, and the link to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import time
from collections.abc import Sequence

from tickcell.server.monitoring.heartbeat import STILL_S
from tickcell.server.workers.link import Report

# What is asked for is there within milliseconds, if at all.
_ANSWER_S = 1.0
# The metrics of thousands of models.
_LONGEST_LINE = 64 * 1024 * 1024
# The parent is the service; its workers tell no service manager anything.
_OF_THE_SERVICE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class WorkerError(Exception):
    """A worker cannot serve."""


class Worker:
    """One process from its start to its end.

    Attributes:
      pid: of the process.
      has_served: whether it came so far.
      is_leaving: whether it was told to end.
      last: its last report.
      metrics: the last that it showed; "" for none.
      end: how it ended; "" while it lives.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.pid = process.pid
        self.has_served = self.is_leaving = False
        self.last = Report(0.0, is_serving=False, metrics="")
        self.metrics = ""
        self.end = ""
        self._process = process
        self._heard_s = time.monotonic()
        self._banner: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Event] = {}
        self._writer = writer
        self._life = asyncio.create_task(self._live(reader))

    @classmethod
    async def start(cls, command: Sequence[str]) -> Worker:
        """Starts a process, which gets the number of its socket as the last argument."""
        environment = {**os.environ}
        for name in _OF_THE_SERVICE:
            environment.pop(name, None)
        with contextlib.ExitStack() as undo:
            ours, theirs = map(undo.enter_context, socket.socketpair())
            process = await asyncio.create_subprocess_exec(
                *command,
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=environment,
                # Ctrl-C is for the parent, which then tells its workers.
                process_group=0,
            )
            theirs.close()
            # Where this is cancelled, the worker finds its parent's end closed, and ends.
            reader, writer = await asyncio.open_connection(sock=ours, limit=_LONGEST_LINE)
            undo.pop_all()
        return cls(process, reader, writer)

    @property
    def is_still(self) -> bool:
        """Whether its event loop, or all of it, stands still."""
        silent_s = self.last.silent_s + time.monotonic() - self._heard_s
        is_watched = self.has_served and not (self.is_leaving or self.end)
        return is_watched and silent_s > STILL_S

    @property
    def is_serving(self) -> bool:
        """Whether callers should come to it."""
        return self.last.is_serving and not (self.is_leaving or self.end or self.is_still)

    async def served(self) -> str:
        """Waits until it serves, and returns its banner.

        Raises:
          WorkerError: it does not come so far.
        """
        return await asyncio.shield(self._banner)

    async def ask(self, *, metrics: bool) -> None:
        """Has it report, with metrics or without; in vain where it stands still.

        One that is leaving is not asked: its last words, which it hands over by itself,
        would be lost with the link.
        """
        if self.end or self.is_leaving or not self.has_served:
            return
        number = next(self._numbers)
        answered = self._asked[number] = asyncio.Event()
        try:
            async with asyncio.timeout(_ANSWER_S):
                question = json.dumps({"number": number, "metrics": metrics})
                self._writer.write(question.encode() + b"\n")
                await answered.wait()
        except TimeoutError:
            return
        finally:
            del self._asked[number]

    def leave(self) -> None:
        """Tells it to drain and to end."""
        self.is_leaving = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once."""
        self._signal(signal.SIGKILL)

    async def ended(self, limit_s: float | None = None) -> None:
        """Waits until it has ended, and all that it said is heard; kills it after a limit."""
        # Unlike `await`, this does not cancel the life when it is cancelled itself.
        _, late = await asyncio.wait((self._life,), timeout=limit_s)
        if late:
            self.kill()
            await asyncio.wait((self._life,))
        self._life.result()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _live(self, reader: asyncio.StreamReader) -> None:
        with contextlib.closing(self._writer):
            with contextlib.suppress(ConnectionError):
                async for line in reader:
                    self._hear(json.loads(line))
            self.end = _how_ended(await self._process.wait())
        for answered in self._asked.values():
            answered.set()
        if not self._banner.done():
            self._fail(f"a worker {self.end} before it served; its log says why.")

    def _hear(self, message: dict[str, object]) -> None:
        match message:
            case {"banner": str(banner)}:
                self.has_served = True
                self._heard_s = time.monotonic()
                self.last = Report(0.0, is_serving=True, metrics="")
                self._banner.set_result(banner)
            case {"complaint": str(complaint)}:
                self._fail(complaint)
            case {"number": int(number), "report": [float(silent_s), bool(serves), str(metrics)]}:
                self._heard_s = time.monotonic()
                self.last = Report(silent_s, serves, metrics)
                self.metrics = metrics or self.metrics
                if number in self._asked:
                    self._asked[number].set()
            case _:
                raise AssertionError(f"a worker said {message!r}")

    def _fail(self, complaint: str) -> None:
        self._banner.set_exception(WorkerError(complaint))
        # Who starts it hears of it; where nobody waits any more, it is stopping.
        self._banner.exception()


def _how_ended(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"

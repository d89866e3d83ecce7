"""The parent of workers: it starts them, and others in the place of those that end.

It holds nothing: no store, no session, no model, and it reads no request. It keeps the
port, watches its workers, shows their metrics as one, and tells them when to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tickcell.server import listening
from tickcell.server.monitoring import systemd
from tickcell.server.monitoring.heartbeat import Heartbeat
from tickcell.server.monitoring.http_port import HttpPort
from tickcell.server.monitoring.pages import shown
from tickcell.server.workers.sums import Sums
from tickcell.server.workers.worker import Worker, WorkerError

if TYPE_CHECKING:
    from tickcell.server.config import Config

_SHORTEST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
# Whoever ends after so long does not end at its start.
_STEADY_S = 30.0
_LOOK_S = 1.0
# A worker that stands still is killed when it was seen to do so this often, some two
# seconds apart: before a watchdog of 10 s ends all of them, and not because the parent
# itself was stopped.
_STILL_LOOKS = 3
# Beyond the grace, for the last calls.
_MARGIN_S = 5.0
_METRICS_S = 4.0

_log = logging.getLogger(__name__)


def run(config: Config, command: Sequence[str]) -> None:
    """Has workers serve until SIGTERM or SIGINT; SIGHUP replaces them one by one.

    Args:
      config: of each worker; `workers` is how many.
      command: starts a server of this configuration.

    Raises:
      ListenError: an address cannot be listened on, or not in plain text.
      WorkerError: a worker cannot start.
    """
    with contextlib.ExitStack() as sockets:
        address, reserved = listening.reserve(config.listen)
        watched = listening.listen_for_metrics(config)
        for each in (*reserved, *watched):
            sockets.enter_context(each)
        arguments = ["--listen", address]
        if watched:
            arguments += ["--metrics", listening.name_of(watched[0])]
        parent = Parent(config, [*command, *arguments, "--worker-link"], watched)
        asyncio.run(parent.serve())


class Parent:
    """Keeps as many workers as there should be."""

    def __init__(
        self, config: Config, command: Sequence[str], watched: list[socket.socket]
    ) -> None:
        """Prepares them.

        Args:
          config: of each.
          command: starts one; the number of its link's socket is added.
          watched: are listened on for metrics and probes.
        """
        self._count = config.workers
        self._limit_s = config.grace_s + _MARGIN_S
        self._command = command
        self._watched = watched
        self._workers: list[Worker] = []
        self._sums = Sums()
        self._heartbeat = Heartbeat()
        self._is_draining = False
        self._lost = asyncio.Event()
        self._renewal = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._port: HttpPort | None = None

    async def serve(self) -> None:
        """Serves until it is told to stop.

        Raises:
          WorkerError: a worker cannot start.
        """
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._renewal.set)
        working = asyncio.create_task(self._work())
        told = asyncio.create_task(stopping.wait())
        await asyncio.wait((working, told), return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            _log.info("stopping")
        self._is_draining = True
        systemd.notify("STOPPING=1\nSTATUS=draining")
        for task in (working, told):
            task.cancel()
        await asyncio.wait((working, told))
        for worker in self._workers:
            worker.leave()
        await asyncio.gather(*(worker.ended(self._limit_s) for worker in self._workers))
        if self._port is not None:
            # In a thread, since its own may wait for an answer from this loop.
            await asyncio.to_thread(self._port.close)
        if not working.cancelled():
            working.result()
        _log.info("stopped")

    async def _work(self) -> None:
        """Starts the workers, and has as many until it is cancelled."""
        failed: list[WorkerError] = []
        try:
            async with asyncio.TaskGroup() as self._tasks:
                # The first makes the store, if there is none yet.
                first = await self._start()
                others = (self._start() for _ in range(self._count - 1))
                await asyncio.gather(*(self._tasks.create_task(other) for other in others))
                sys.stdout.write(await first.served())
                sys.stdout.flush()
                self._attend_to_all()
        except* WorkerError as group:
            failed.extend(error for error in group.exceptions if isinstance(error, WorkerError))
        if failed:
            raise failed[0]

    def _attend_to_all(self) -> None:
        for work in (
            self._refill(),
            self._replace_when_told(),
            self._look(),
            self._heartbeat.beat(lambda: not self._still()),
        ):
            self._tasks.create_task(work)
        if self._watched:
            loop = asyncio.get_running_loop()

            def metrics() -> bytes:
                asked = asyncio.run_coroutine_threadsafe(self._metrics(), loop)
                return asked.result(_METRICS_S)

            self._port = HttpPort(self._watched, shown(metrics, self._live, self._ready))
        systemd.notify(f"READY=1\nSTATUS={self._count} workers serve")

    async def _start(self) -> Worker:
        """Starts a worker, and returns it when it serves.

        Raises:
          WorkerError: it does not come so far.
        """
        worker = await Worker.start(self._command)
        self._workers.append(worker)
        self._tasks.create_task(self._attend_to(worker))
        await worker.served()
        _log.info("worker %d serves", worker.pid)
        return worker

    async def _attend_to(self, worker: Worker) -> None:
        """Waits for a worker's end, and says so where it was not told to."""
        await worker.ended()
        self._workers.remove(worker)
        is_lost = worker.has_served and not worker.is_leaving
        self._sums.leave(worker.metrics, is_lost=is_lost)
        if is_lost:
            _log.error("worker %d %s; starting another", worker.pid, worker.end)
        self._lost.set()

    @property
    def _missing(self) -> int:
        return self._count - sum(not worker.is_leaving for worker in self._workers)

    async def _refill(self) -> None:
        """Starts workers in the place of those that were lost, less often if they fail again."""
        pause_s = _SHORTEST_PAUSE_S
        filled_s = time.monotonic()
        while True:
            await self._lost.wait()
            self._lost.clear()
            if time.monotonic() - filled_s > _STEADY_S:
                pause_s = _SHORTEST_PAUSE_S
            while self._missing > 0:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                await asyncio.gather(*(self._try_to_start() for _ in range(self._missing)))
                filled_s = time.monotonic()

    async def _try_to_start(self) -> bool:
        try:
            await self._start()
        except WorkerError as error:
            _log.error("a worker cannot start: %s", error)
            return False
        return True

    async def _replace_when_told(self) -> None:
        """Replaces all workers, one after the other, whenever SIGHUP comes."""
        while True:
            await self._renewal.wait()
            self._renewal.clear()
            old = [worker for worker in self._workers if worker.has_served]
            _log.info("replacing %d workers, one after the other", len(old))
            for worker in old:
                if not await self._try_to_start():
                    _log.error("the workers that are not replaced yet continue")
                    break
                worker.leave()
                await worker.ended(self._limit_s)
            else:
                _log.info("replaced %d workers", len(old))

    async def _look(self) -> None:
        """Asks all workers for their status, each second, and kills those that have stalled."""
        seen: dict[int, int] = {}
        while True:
            await asyncio.gather(*(worker.ask(metrics=False) for worker in self._workers))
            still = {worker.pid: worker for worker in self._workers if worker.is_still}
            seen = {pid: seen.get(pid, 0) + 1 for pid in still}
            for pid, worker in still.items():
                if seen[pid] == _STILL_LOOKS:
                    _log.error("worker %d has stalled, and is killed", pid)
                    worker.kill()
            await asyncio.sleep(_LOOK_S)

    async def _metrics(self) -> bytes:
        await asyncio.gather(*(worker.ask(metrics=True) for worker in self._workers))
        living = [worker.metrics for worker in self._workers]
        return self._sums.text(living, sum(worker.is_serving for worker in self._workers))

    def _still(self) -> list[int]:
        return [worker.pid for worker in self._workers if worker.is_still]

    def _live(self) -> str:
        if self._heartbeat.is_still:
            return f"the parent had no event for {self._heartbeat.silent_s:.0f} s"
        still = self._still()
        return f"stalled: {' '.join(map(str, still))}" if still else ""

    def _ready(self) -> str:
        if self._is_draining:
            return "draining"
        is_serving = any(worker.is_serving for worker in self._workers)
        return "" if is_serving else "no worker serves"

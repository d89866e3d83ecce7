"""A process that has a store open and does with it what its parent writes to it.

It reads one command a line and answers with one line, which is the error's if it fails:

    open [LEVEL]          opens the store; answers "open"
    set KEY VERSION       replaces a record, whatever it is; answers the verdict
    add COUNT             adds records of version 1 until there are COUNT
    increment KEY COUNT   replaces a record by its next version COUNT times
    tick                  replaces records by their next versions until it is killed, and writes
                          each to its standard output when it is acknowledged
    pace RATE SECONDS     as many commits a second, and the upkeep; answers what they took
    get KEY               answers the record's version
    upkeep                does the upkeep; answers "done"
    keep SECONDS          does the upkeep each second for so long
    now                   answers the store's clock, in nanoseconds
    pass SECONDS          moves the monotonic clock that the store was given
    begin                 begins a write transaction by itself and stops itself in it
    read                  begins a read transaction by itself and stops itself in it
    hold                  begins a read transaction by itself and goes on
    close                 closes the store
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time

import apsw

from server import store_records
from tickcell.server.store import Applied, Contended, Key, SqliteStore, StoreError, Verdict
from tickcell.server.store.durability import Durability


class StoreProcess:
    """The parent's end of such a process."""

    def __init__(
        self, directory: pathlib.Path, *options: str, prefix: tuple[str, ...] = ()
    ) -> None:
        command = [*prefix, sys.executable, "-m", "server.store_process", str(directory), *options]
        self._process = subprocess.Popen(
            command,
            cwd=pathlib.Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.pid = self._process.pid

    def __enter__(self) -> StoreProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def ask(self, command: str) -> str:
        """Returns the answer to a command."""
        self.tell(command)
        return self.answer()

    def tell(self, command: str) -> None:
        """Sends a command whose answer may take long."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")

    def answer(self) -> str:
        """Waits for an answer."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def answers(self) -> list[str]:
        """Returns all whole lines that a process which is dead has written."""
        assert self._process.stdout is not None
        return [line.strip() for line in self._process.stdout if line.endswith("\n")]

    def has_answered(self, *, within_s: float) -> bool:
        """Waits for the beginning of an answer, but no longer than that."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], within_s)
        return bool(ready)

    def wait_until_stopped(self) -> None:
        """Waits until the process has stopped."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def stop(self) -> None:
        """Stops the process, as a debugger or a frozen container does."""
        self.signal(signal.SIGSTOP)
        self.wait_until_stopped()

    def signal(self, number: int) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def end(self) -> None:
        """Kills the process as `kill -9` does; what it has written can still be read."""
        self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """Kills the process as `kill -9` does, and waits for its end."""
        self.end()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.close()
        if not stdout.closed:
            # It ends with the process behind a prefix, which the kernel kills with that.
            stdout.read()
            stdout.close()


class _Child:
    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self._store: SqliteStore | None = None
        self._passed_ns = 0
        self._other: apsw.Connection | None = None

    @property
    def store(self) -> SqliteStore:
        assert self._store is not None
        return self._store

    def open(self, level: Durability | None = None) -> str:
        self._store = SqliteStore.open(
            self._directory,
            durability=level,
            monotonic_ns=lambda: time.monotonic_ns() + self._passed_ns,
        )
        return "open"

    def set(self, name: str, version: str) -> str:
        key = store_records.key(name)
        (old,) = self.store.load([key])
        change = store_records.step(key, old)._replace(
            replacement=store_records.encode(key, int(version))
        )
        return type(self.store.commit([change])[0]).__name__

    def add(self, count: str) -> str:
        while (done := self.store.counts().live) < int(count):
            keys = [store_records.key(index) for index in range(done, min(done + 500, int(count)))]
            self.store.commit([store_records.step(key, None) for key in keys])
        return str(self.store.counts().live)

    def tick(self) -> str:
        keys = [key for key, _ in self.store.scan(None, None, 1 << 20)]
        while True:
            for key in keys:
                version = self._step(key)
                sys.stdout.write(f"{key.session} {version}\n")
                sys.stdout.flush()

    def increment(self, name: str, count: str) -> str:
        for _ in range(int(count)):
            self._step(store_records.key(name))
        return "done"

    def pace(self, rate: str, seconds: str) -> str:
        key = store_records.key(f"pace-{os.getpid()}")
        times, log_bytes = [], 0
        begin = time.perf_counter()
        due = upkeep_due = begin
        while time.perf_counter() < begin + float(seconds):
            due += 1 / float(rate)
            time.sleep(max(0.0, due - time.perf_counter()))
            before = time.perf_counter()
            self._step(key, 1300)
            times.append(time.perf_counter() - before)
            if time.perf_counter() > upkeep_due:
                self.upkeep()
                upkeep_due += 1
                log_bytes = max(log_bytes, (self._directory / "store.db-wal").stat().st_size)
        times.sort()
        return json.dumps(
            {
                "count": len(times),
                "p50_ms": 1e3 * times[len(times) // 2],
                "p99_ms": 1e3 * times[len(times) * 99 // 100],
                "max_ms": 1e3 * times[-1],
                "log_bytes": log_bytes,
            }
        )

    def get(self, name: str) -> str:
        key = store_records.key(name)
        (found,) = self.store.load([key])
        return "none" if found is None else str(store_records.version(key, found))

    def upkeep(self) -> str:
        self.store.upkeep()
        return "done"

    def keep(self, seconds: str) -> str:
        answer = "done"
        for _ in range(int(seconds)):
            time.sleep(1)
            answer = self.upkeep()
        return answer

    def now(self) -> str:
        return str(self.store.now_ns())

    def id(self) -> str:
        return self.store.id

    # A word of Python's, so not the method's name.
    def pass_(self, seconds: str) -> str:
        self._passed_ns += round(float(seconds) * 1e9)
        return "passed"

    def read(self) -> str:
        self.hold()
        os.kill(os.getpid(), signal.SIGSTOP)
        return "read"

    def hold(self) -> str:
        self._other = apsw.Connection(str(self._directory / "store.db"))
        self._other.execute("BEGIN")
        self._other.execute("SELECT count(*) FROM record").fetchall()
        return "holding"

    def begin(self) -> str:
        self._other = apsw.Connection(str(self._directory / "store.db"))
        self._other.execute("BEGIN IMMEDIATE")
        self._other.execute("UPDATE record SET value = x'00'")
        os.kill(os.getpid(), signal.SIGSTOP)
        self._other.execute("ROLLBACK")
        return "rolled back"

    def close(self) -> str:
        self.store.close()
        return "closed"

    def _step(self, key: Key, size: int = 400) -> int:
        """Commits a record's next version, whatever others do, and returns it."""
        while True:
            (old,) = self.store.load([key])
            # Two processes that write the same are taken for one that tries again.
            change = store_records.step(key, old, size, writer=os.getpid())
            verdict: Verdict = self.store.commit([change])[0]
            if isinstance(verdict, Applied):
                assert change.replacement is not None
                return store_records.version(key, change.replacement)
            if isinstance(verdict, Contended):
                time.sleep(0.001)


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    child = _Child(parser.parse_args().directory)
    for line in sys.stdin:
        command, *arguments = line.split()
        method = getattr(child, "pass_" if command == "pass" else command)
        try:
            answer = method(*arguments)
        except StoreError as error:
            answer = f"{type(error).__name__}: {error}"
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()

"""A process that has a store open and does with it what its parent writes to it.

It reads one command a line and answers with one line:

    open                  opens the store; answers "open", or the error
    set KEY VERSION       replaces a record, whatever it is
    add COUNT             adds records of version 1 until there are COUNT
    increment KEY COUNT   replaces a record by its next version COUNT times
    tick                  replaces records by their next versions until it is killed
    get KEY               answers the record's version
    sync                  syncs the store
    note                  answers what the store noted at its start
    begin                 begins a write transaction and stops itself in it
    read                  begins a read transaction and stops itself in it
    readers               answers how many readers of other processes LMDB knows
    close                 closes the store
"""

from __future__ import annotations

import argparse
import os
import pathlib
import select
import signal
import subprocess
import sys
from typing import Any

import lmdb

from server import store_records
from tickcell.server.store import Change, LmdbStore, StoreError


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

    def has_answered(self, *, within_s: float) -> bool:
        """Waits for the beginning of an answer, but no longer than that."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], within_s)
        return bool(ready)

    def wait_until_stopped(self) -> None:
        """Waits until the process has stopped itself."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def signal(self, number: int) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kills the process as `kill -9` does, and waits for its end."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


class _Child:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self._directory = arguments.directory
        self._options: dict[str, Any] = {
            "boot_id": arguments.boot_id,
            "on_unclean": arguments.on_unclean,
            "durability": arguments.durability,
            "check": store_records.version,
        }
        self._store: LmdbStore | None = None

    @property
    def store(self) -> LmdbStore:
        assert self._store is not None
        return self._store

    def open(self) -> str:
        try:
            self._store = LmdbStore.open(self._directory, **self._options)
        except StoreError as error:
            return f"{type(error).__name__}: {error}"
        return "open"

    def set(self, key: str, version: str) -> str:
        (old,) = self.store.load([key.encode()])
        change = Change(key.encode(), old, store_records.encode(int(version)))
        return str(self.store.commit([change]))

    def add(self, count: str) -> str:
        while (done := self.store.count()) < int(count):
            keys = [f"{index:06}".encode() for index in range(done, min(done + 500, int(count)))]
            self.store.commit([Change(key, None, store_records.encode(1)) for key in keys])
        return str(self.store.count())

    def tick(self) -> str:
        sys.stdout.write("ticking\n")
        sys.stdout.flush()
        while True:
            for key, old in self.store.scan(b"", 1 << 20):
                new = store_records.encode(store_records.version(old) + 1)
                self.store.commit([Change(key, old, new)])

    def get(self, key: str) -> str:
        (found,) = self.store.load([key.encode()])
        return "none" if found is None else str(store_records.version(found))

    def sync(self) -> str:
        self.store.sync()
        return "synced"

    def note(self) -> str:
        return str(self.store.note)

    def increment(self, key: str, count: str) -> str:
        lost = 0
        for _ in range(int(count)):
            is_applied = False
            while not is_applied:
                (old,) = self.store.load([key.encode()])
                assert old is not None
                new = store_records.encode(store_records.version(old) + 1)
                (is_applied,) = self.store.commit([Change(key.encode(), old, new)])
                lost += not is_applied
        return f"lost {lost}"

    def read(self) -> str:
        with lmdb.open(str(self._directory), map_size=1 << 30) as environment, environment.begin():
            os.kill(os.getpid(), signal.SIGSTOP)
        return "read"

    def readers(self) -> str:
        with lmdb.open(str(self._directory), map_size=1 << 30) as environment:
            rows = [line.split() for line in environment.readers().splitlines()]
            return str(sum(row[0].isdigit() and int(row[0]) != os.getpid() for row in rows))

    def begin(self) -> str:
        with (
            lmdb.open(str(self._directory), map_size=1 << 30) as environment,
            environment.begin(write=True) as transaction,
        ):
            transaction.put(b"000000", b"never to be seen unless committed")
            os.kill(os.getpid(), signal.SIGSTOP)
            transaction.abort()
        return "aborted"

    def close(self) -> str:
        self.store.close()
        return "closed"


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--boot-id")
    parser.add_argument("--on-unclean", default="refuse")
    parser.add_argument("--durability", default="process-crash")
    child = _Child(parser.parse_args())
    for line in sys.stdin:
        command, *arguments = line.split()
        sys.stdout.write(getattr(child, command)(*arguments) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()

"""Servers and clients are killed over and over; not a bit of any session's outputs changes.

Each kill comes while at least one request is unanswered. A second server on the same
store, which is never killed, then tells how far each session was applied: what is
applied but unacknowledged must be answered from the window, not applied again.
"""

from __future__ import annotations

import csv
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from replays import PATIENCE_S, Replay, loop
from tickcell.cli import server_process
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session
from tickcell.model import Bundle


@pytest.mark.parametrize(
    ("kills", "sessions"),
    [(5, 4), pytest.param(100, 20, marks=pytest.mark.slow)],
)
def test_killed_servers_lose_nothing_and_apply_nothing_twice(
    tmp_path: Path, kills: int, sessions: int
) -> None:
    bundle = Bundle.load()
    chance = random.Random(kills)
    stop = threading.Event()
    found_steps = found_commits = 0
    with (
        server_process.ServerProcess(tmp_path) as server,
        server_process.ServerProcess(
            tmp_path, "--store", str(server.store), listen="localhost:0"
        ) as witness,
    ):
        replays = [
            Replay(Session.create(server.address, f"car-{index}"), 97 * index)
            for index in range(sessions)
        ]
        threads = [
            threading.Thread(target=replay.run, args=(bundle.golden.frames, stop))
            for replay in replays
        ]
        for thread in threads:
            thread.start()
        # On a busy machine it may take some more until one comes behind a commit.
        done = 0
        while done < kills or not found_commits:
            assert done < 5 * kills, "no kill came between a commit and its answer"
            done += 1
            kill_in_flight(server, replays, chance)
            for replay in replays:
                applied = Session.attach(witness.address, replay.session.id)
                ahead = applied.next_step - replay.session.next_step
                applied.detach()
                found_commits += ahead > 0
                found_steps += max(0, ahead)
            server.restart()
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        for replay in replays:
            if replay.error is not None:
                raise replay.error
            applied = Session.attach(witness.address, replay.session.id)
            assert applied.next_step == len(replay.outputs)
            applied.detach()
            expected = loop(bundle, replay.offset, len(replay.outputs))
            assert np.stack(replay.outputs).tobytes() == expected.tobytes(), replay.session.id
    steps = sum(len(replay.outputs) for replay in replays)
    print(
        f"{done} kills, {sessions} sessions, {steps} steps, 0 outputs differ; sessions found "
        f"applied but unacknowledged at a kill: {found_commits}; their steps, answered from the "
        f"window: {found_steps}"
    )
    assert found_steps > 0


def kill_in_flight(server: ServerProcess, replays: list[Replay], chance: random.Random) -> None:
    """Kills the server once every session has moved and one has a request unanswered."""
    watched = chance.choice(replays)
    goal = len(watched.outputs) + chance.randint(1, 60)
    deadline = time.monotonic() + PATIENCE_S
    while len(watched.outputs) < goal or not watched.session.in_flight:
        if watched.error is not None:
            raise watched.error
        assert time.monotonic() < deadline, "the replay does not move"
        time.sleep(0.0005)
    server.kill()


@pytest.mark.parametrize(
    ("kills", "clients"),
    [(3, 2), pytest.param(100, 20, marks=pytest.mark.slow)],
)
def test_killed_clients_resume_where_their_files_end(
    tmp_path: Path, kills: int, clients: int
) -> None:
    bundle = Bundle.load()
    chance = random.Random(kills)
    steps = len(bundle.golden.frames)
    with server_process.temporary() as server:
        processes = [Client(server.address, tmp_path, index) for index in range(clients)]
        for client in processes:
            client.start()
        done = 0
        while done < kills:
            client = chance.choice(processes)
            before = client.rows()
            if before >= steps - 1:
                client.begin_anew()
                continue
            client.wait_for_rows(before + chance.randint(1, (steps - before) // 2))
            client.kill()
            done += 1
            client.start("--resume")
        for client in processes:
            client.finish()
    expected = loop(bundle, 0, steps)
    for client in processes:
        for path in client.outputs:
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert [int(row["step"]) for row in rows] == list(range(steps)), path.name
            outputs = np.array([row["output"] for row in rows], np.float32)
            assert outputs.tobytes() == expected.tobytes(), path.name


class Client:
    """A `tickcell replay` that is killed and resumed."""

    def __init__(self, address: str, directory: pathlib.Path, index: int) -> None:
        self._address = address
        self._directory = directory
        self._index = index
        self.outputs: list[pathlib.Path] = []
        self._next_output()

    def _next_output(self) -> None:
        name = f"car-{self._index}-{len(self.outputs)}"
        self.outputs.append(self._directory / f"{name}.csv")
        self._log = self._directory / f"{name}.log"

    def start(self, *arguments: str) -> None:
        output = self.outputs[-1]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tickcell.cli", "replay", "--hz", "400"),
                    *("--server", self._address, "--session", output.stem, "--out", str(output)),
                    *arguments,
                ],
                stderr=log,
            )

    def rows(self) -> int:
        output = self.outputs[-1]
        return max(0, output.read_bytes().count(b"\n") - 1) if output.exists() else 0

    def wait_for_rows(self, rows: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.rows() < rows:
            assert self._process.poll() in (None, 0), self._log.read_text()
            assert time.monotonic() < deadline, "the replay does not move"
            if self._process.poll() == 0:
                return
            time.sleep(0.001)

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def finish(self) -> None:
        assert self._process.wait(PATIENCE_S) == 0, self._log.read_text()

    def begin_anew(self) -> None:
        """Starts another replay once this one is through."""
        self.finish()
        self._next_output()
        self.start()

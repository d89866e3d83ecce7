"""A live store that others look into, in any order, with kills: nothing acknowledged is lost."""

from __future__ import annotations

import pathlib
import random
import shutil
import subprocess
import sys

import apsw
import pytest

from server import store_records
from server.store_process import StoreProcess
from tickcell.server.store import checking

OURS = "from tickcell.server.store.commands import store; store()"
# The standard library's SQLite, which is another than ours; its process is as good as a shell.
THEIRS = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0.2); "
    "print(c.execute(sys.argv[2]).fetchall())"
)
STATEMENTS = [
    "SELECT count(*), sum(length(value)) FROM record",
    "PRAGMA wal_checkpoint(PASSIVE)",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA integrity_check",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA locking_mode = EXCLUSIVE",
    "VACUUM",
    "BEGIN IMMEDIATE",
]


def lookers(directory: pathlib.Path, place: pathlib.Path) -> list[list[str]]:
    """Returns the commands of all who look into a store."""
    database = str(directory / "store.db")
    store = ["--store", str(directory)]
    python = [sys.executable, "-c"]
    found = [
        [*python, OURS, "inspect", *store],
        [*python, OURS, "check", *store],
        [*python, OURS, "backup", *store, str(place)],
        [*python, OURS, "durability", *store, "power-loss"],
        *([*python, THEIRS, database, statement] for statement in STATEMENTS),
    ]
    shell = shutil.which("sqlite3")
    if shell is not None:
        found += [[shell, database, statement] for statement in [*STATEMENTS, ".schema", ".dump"]]
    return found


@pytest.mark.parametrize("round_count", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_store_that_others_look_into_loses_nothing(
    tmp_path: pathlib.Path, round_count: int
) -> None:
    chance = random.Random(round_count)
    directory = tmp_path / "store"
    with StoreProcess(directory) as server:
        server.ask("open")
        server.ask("add 30")
        server.kill()
    for number in range(round_count):
        with StoreProcess(directory) as server, StoreProcess(directory) as second:
            assert server.ask("open") == "open"
            # Two servers, of which one is killed, and so are some of the lookers.
            assert second.ask("open") == "open"
            server.tell("tick")
            lines = [server.answer()]
            commands = lookers(directory, tmp_path / f"backup-{number}.db")
            for command in chance.sample(commands, 4):
                looker = subprocess.Popen(
                    command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                lines += [server.answer() for _ in range(chance.randint(1, 400))]
                if chance.random() < 0.3:
                    looker.kill()
                looker.wait()
                second.ask("increment 000029 5")
                assert second.ask("upkeep") == "done"
            is_server_first = chance.random() < 0.5
            if is_server_first:
                server.end()
            second.kill()
            server.end()
            acknowledged = dict(line.split() for line in lines + server.answers())
        connection = apsw.Connection(str(directory / "store.db"))
        assert checking.check_all(connection, store_records.problem) == (30, [], [])
        connection.close()
        with StoreProcess(directory) as restarted:
            assert restarted.ask("open") == "open"
            for name, version in acknowledged.items():
                # The other server stepped the last one too.
                found = int(restarted.ask(f"get {name}"))
                assert found >= int(version), f"round {number}, session {name}"
                assert found - int(version) <= 1 or name == "000029"

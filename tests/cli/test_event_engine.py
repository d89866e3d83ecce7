"""gRPC's event engine is left off in the processes of the command line."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import subprocess
import sys

import pytest

from tickcell.cli import event_engine, server_process
from tickcell.client import Session
from tickcell.model import Bundle

TICKS = 100


@pytest.mark.parametrize(
    ("version", "is_left_off"),
    [("1.81.0", True), ("1.85.3", True), ("1.86.0rc1", False), ("1.100.0", False), ("2.0", False)],
)
def test_only_releases_that_were_tried_are_switched(version: str, is_left_off: bool) -> None:
    assert bool(event_engine.switches_of(version)) == is_left_off


def engine_wakes(pid: int) -> int:
    """How often threads of the engine have slept, and were woken."""
    count = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == "event_engine":
            status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            count += int(status["voluntary_ctxt_switches"])
    return count


@pytest.mark.parametrize("chosen", [None, "", "event_engine_listener"])
def test_a_server_wakes_none_of_its_threads_unless_the_environment_says_otherwise(
    chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRPC_EXPERIMENTS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("GRPC_EXPERIMENTS", chosen)
    frames = Bundle.load().golden.frames[:TICKS]
    with (
        server_process.temporary() as server,
        Session.create(server.address) as session,
    ):
        before = engine_wakes(server.pid)
        for frame in frames:
            session.step(frame)
        wakes = engine_wakes(server.pid) - before
    is_left_off = chosen is None and event_engine.switches_of(importlib.metadata.version("grpcio"))
    assert wakes < TICKS if is_left_off else wakes > TICKS


@pytest.mark.parametrize(("chosen", "is_known"), [(None, True), ("-no_such_switch", False)])
def test_grpc_knows_what_is_switched(
    chosen: str | None, is_known: bool, tmp_path: pathlib.Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    if chosen is not None:
        environment["GRPC_EXPERIMENTS"] = chosen
    asked = subprocess.run(
        [
            *(sys.executable, "-m", "tickcell.cli", "replay"),
            *("--server", "localhost:1", "--retry-for", "0"),
        ],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert asked.returncode == 1
    assert ("experiment" not in asked.stderr) == is_known

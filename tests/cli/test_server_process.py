"""A server as a child process starts, ends and starts again where it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tickcell.cli import server_process
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session


def test_a_killed_server_comes_back_with_its_sessions(
    mortal_server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with Session.create(mortal_server.address) as session:
        session.step(frames[0])
        before = mortal_server.pid, mortal_server.address
        mortal_server.kill()
        mortal_server.restart()
        assert session.step(frames[1]) == expected[1]
    assert (mortal_server.pid, mortal_server.address) != before
    assert mortal_server.address == before[1]


def test_on_tcp_the_port_is_kept_too(
    tmp_path: Path, frames: np.ndarray, expected: np.ndarray
) -> None:
    with server_process.ServerProcess(tmp_path, listen="localhost:0") as server:
        before = server.address
        server.stop()
        server.restart()
        assert server.address == before != "localhost:0"
        with Session.create(server.address) as session:
            assert session.step(frames[0]) == expected[0]


def test_what_the_server_says_when_it_does_not_start_is_passed_on(tmp_path: Path) -> None:
    with (
        pytest.raises(server_process.ServerStartError, match="is not a bundle's directory"),
        server_process.temporary("--bundle", str(tmp_path / "nothing")),
    ):
        pass


def test_the_caller_s_own_settings_do_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKCELL_DURABILITY", "none")
    monkeypatch.setenv("TICKCELL_BUNDLE", "/nowhere")
    with server_process.temporary() as server:
        assert server.pid > 0


def test_a_server_that_does_not_run_has_no_pid(mortal_server: ServerProcess) -> None:
    mortal_server.kill()
    with pytest.raises(server_process.ServerStartError, match="is not running"):
        mortal_server.kill()

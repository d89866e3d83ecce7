"""Standard error keeps what matters, and is taken away by the command line alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import import_graph
from tickcell.cli.quiet_start import held_stderr


def test_what_goes_well_is_held_back_and_nothing_after_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with held_stderr():
        os.write(2, b"INFO: all is well\n")
    os.write(2, b"INFO: later\n")
    assert capfd.readouterr().err == "INFO: later\n"


def test_an_exception_loses_no_line(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with held_stderr():
            os.write(2, b"why it failed\n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capfd.readouterr().err == "why it failed\n"


def test_no_directory_need_be_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # As in a container whose file system is read-only.
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
        with held_stderr():
            os.write(2, b"INFO: all is well\n")
    assert capfd.readouterr().err == ""


def test_no_library_takes_standard_error_away(project: Path) -> None:
    found = [
        name
        for name, path in import_graph.modules(project).items()
        if "dup2(" in path.read_text(encoding="utf-8") and not name.startswith("tickcell.cli.")
    ]
    assert found == []


@pytest.mark.parametrize("command", ["verify --no-keras", "evaluate {bundle} {recording}"])
def test_a_command_that_runs_graphs_says_nothing_of_their_library(
    command: str, project: Path, tmp_path: Path
) -> None:
    python = [sys.executable, "-m", "tickcell.cli"]
    recording = tmp_path / "drive.csv"
    with recording.open("w") as file:
        subprocess.run([*python, "sample"], stdout=file, check=True)
    bundle = project / "model" / "tickcell" / "model" / "bundles" / "drive"
    words = command.format(bundle=bundle, recording=recording).split()
    done = subprocess.run([*python, *words], capture_output=True, text=True, check=True)
    said = [line for line in done.stderr.splitlines() if not line.startswith("tickcell: ")]
    assert said == []

"""What a robot imports runs where there is no POSIX; its names are checked by `make check`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import import_graph

# Python has these on Linux and macOS alone: https://docs.python.org/3/library/unix.html
POSIX = (
    *("_posixshmem", "_posixsubprocess", "crypt", "curses", "fcntl", "grp", "nis", "posix"),
    *("pty", "pwd", "readline", "resource", "spwd", "syslog", "termios", "tty"),
)
# On POSIX some of these import modules of POSIX, each for itself.
OF_OTHERS = "asyncio, concurrent.futures, socket, subprocess, tempfile, grpc.aio, numpy"
PLATFORM = f"""
import importlib, sys
import {OF_OTHERS}
import google.protobuf.json_format, google.rpc.error_details_pb2
sys.modules |= dict.fromkeys({POSIX})
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def _imported_without_posix(*names: str, path: Path | None = None) -> str:
    """Imports modules where POSIX is missing, in a fresh process; returns the error, if any."""
    done = subprocess.run(
        [sys.executable, "-c", PLATFORM, *names],
        cwd=path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert bool(done.stderr) == bool(done.returncode), done.stderr
    return done.stderr


@pytest.mark.parametrize("part", ["client", "wire", "conformance"])
def test_what_a_robot_imports_needs_no_module_of_posix(part: str, project: Path) -> None:
    names = [
        name
        for name in import_graph.modules(project)
        if name.startswith(f"tickcell.{part}") and not name.endswith("__main__")
    ]
    assert f"tickcell.{part}" in names
    assert _imported_without_posix(*names) == ""


@pytest.mark.parametrize("module", ["fcntl", "pwd", "resource", "termios"])
def test_an_import_of_posix_would_be_found(module: str, tmp_path: Path) -> None:
    (tmp_path / "robot.py").write_text(f"def read() -> None: ...\nimport {module}\n")
    assert f"import of {module} halted" in _imported_without_posix("robot", path=tmp_path)

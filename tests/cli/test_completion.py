"""The line that the documents show makes a shell complete commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

import documents


@pytest.mark.parametrize(
    ("typed", "completed"), [("rep", "replay"), ("--ver", "--version"), ("nothing", "")]
)
def test_shown_line_completes_in_bash(typed: str, completed: str, project: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash: apt-get install bash")
    document = documents.Document.read(project / "docs" / "operations.md")
    (line,) = [line for line in document.commands if "_TICKCELL_COMPLETE" in line]
    script = (
        f"{line}\nCOMP_WORDS=(tickcell {typed}) COMP_CWORD=1\n"
        '_tickcell_completion tickcell\necho "${COMPREPLY[*]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.strip() == completed, done.stderr

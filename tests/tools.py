"""Programs of the system that some tests need."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def run(program: str, *arguments: str, package: str, text: str = "") -> None:
    """Runs a program that must find nothing to complain of.

    Where it is not installed, the test is skipped and says how to install it.

    Args:
      program: its name.
      *arguments: of the command line.
      package: the one of Debian and Ubuntu that has it.
      text: its standard input.
    """
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed; on Debian or Ubuntu: apt-get install {package}")
    done = subprocess.run(
        [path, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{program} {' '.join(arguments)}:\n{done.stdout}{done.stderr}"


def promtool(*arguments: str, text: str = "") -> None:
    """Runs Prometheus's own checks."""
    run("promtool", *arguments, package="prometheus", text=text)

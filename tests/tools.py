"""Programs that some tests need: of the system, or of the extra `dev`."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig

import pytest

# What `make test` installs, and `make test-fast` does without.
needs_training = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="TensorFlow is not installed: make test, or pip install 'tickcell[train]'",
)


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
    _content(path, *arguments, text=text)


def promtool(*arguments: str, text: str = "") -> None:
    """Runs Prometheus's own checks."""
    run("promtool", *arguments, package="prometheus", text=text)


def developed(program: str, *arguments: str) -> None:
    """Runs a program of the extra `dev` that must find nothing to complain of.

    Where it is not installed, the test fails and says how to install it: `make test` does.
    """
    path = shutil.which(program, path=sysconfig.get_path("scripts"))
    assert path, f"{program} is not installed; run: make test, or pip install 'tickcell[dev]'"
    _content(path, *arguments)


def _content(path: str, *arguments: str, text: str = "") -> None:
    done = subprocess.run(
        [path, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{path} {' '.join(arguments)}:\n{done.stdout}{done.stderr}"

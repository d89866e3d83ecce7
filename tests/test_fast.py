"""`pytest --fast` runs neither TensorFlow nor any process, whatever the tests are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
import fast

def pytest_addoption(parser):
    parser.addoption("--fast", action="store_true")

def pytest_configure(config):
    config.addinivalue_line("markers", "lengthy: takes seconds")

def pytest_collection(session):
    if session.config.getoption("--fast"):
        fast.begin(session.config)
"""
# A module that must not be executed, under the name of TensorFlow or of a part of it.
TENSORFLOW = "import pathlib\npathlib.Path(__file__).with_name('executed').touch()\n"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "tensorflow.py").write_text(TENSORFLOW)
    return tmp_path


def _outcomes(suite: Path, test: str, *options: str) -> str:
    """Runs one test file; returns pytest's last line, such as `1 passed in 0.01s`."""
    (suite / "test_it.py").write_text(test)
    paths = f"{Path(__file__).parent}:{suite}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py", *options],
        cwd=suite,
        env={"PYTHONPATH": paths, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "test",
    [
        "import tensorflow\ndef test_it(): pass\n",
        "def test_it():\n    import tensorflow\n",
        "def test_it():\n    try:\n        import tensorflow\n    except Exception: pass\n",
    ],
    ids=["at its start", "within", "within a try"],
)
def test_fast_tests_import_no_tensorflow(suite: Path, test: str) -> None:
    assert _outcomes(suite, test, "--fast").startswith("1 skipped")
    assert not (suite / "executed").exists()
    assert _outcomes(suite, test).startswith("1 passed")
    assert (suite / "executed").exists()


@pytest.mark.parametrize(
    "start",
    [
        "import subprocess; subprocess.run('true')",
        "import asyncio; asyncio.run(asyncio.create_subprocess_exec('true'))",
        "import os; os.fork() or os._exit(0)",
    ],
    ids=["subprocess", "asyncio", "fork"],
)
def test_fast_tests_start_no_process(suite: Path, start: str) -> None:
    assert _outcomes(suite, f"def test_it():\n    {start}\n", "--fast").startswith("1 skipped")


def test_fast_tests_are_none_that_take_seconds(suite: Path) -> None:
    lengthy = "import pytest\n@pytest.mark.lengthy\ndef test_it(): pass\n"
    assert _outcomes(suite, lengthy, "--fast").startswith("1 deselected")
    assert _outcomes(suite, lengthy).startswith("1 passed")


def test_fast_tests_are_all_the_others(suite: Path) -> None:
    assert _outcomes(suite, "def test_it(): pass\n", "--fast").startswith("1 passed")
    assert _outcomes(suite, "def test_it(): assert 0\n", "--fast").startswith("1 failed")


@pytest.mark.parametrize("processes", ["0", "2"])
def test_fast_tests_of_this_project_are_asked_for_in_the_same_way(
    project: Path, processes: str
) -> None:
    command = [sys.executable, "-m", "pytest", "--fast", "-q", "-rs", "--numprocesses", processes]
    done = subprocess.run(
        [*command, "tests/model/test_packing.py"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "not fast: it imports" in done.stdout

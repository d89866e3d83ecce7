"""A run of the suite against one server, by pytest, which nothing of its surroundings touches."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tickcell.conformance.caller import Caller
from tickcell.conformance.course import Course
from tickcell.conformance.findings import Findings

DIRECTORY = pathlib.Path(__file__).parent
AREAS = tuple(sorted(path.stem.removeprefix("test_") for path in DIRECTORY.glob("test_*.py")))

# What would change a run of pytest from outside.
_ENVIRONMENT = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DEBUG")


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What is tested.

    Attributes:
      caller: connected to the server.
      course: what its sessions are fed, and what they must answer.
    """

    caller: Caller
    course: Course


def run(target: Target | None, areas: Sequence[str], write: Callable[[str], None]) -> Findings:
    """Runs the tests of some areas, and deletes what they made, however they end.

    Ctrl-C ends the run after the test that is running; a second one ends it at once.

    Args:
      target: the server; None to list the tests, and run none.
      areas: of AREAS; none for all.
      write: is given each line for people.
    """
    findings = Findings(areas or AREAS, target, write)
    options = ["--collect-only"] if target is None else []
    try:
        with _stopped_by_signals(findings), _alone():
            status = pytest.main([*_options(), *options, str(DIRECTORY)], [findings])
        if findings.unheard is not None:
            raise findings.unheard
        if status in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
            raise RuntimeError(f"pytest ended with {status!r}")
    finally:
        if target is not None:
            findings.left = target.caller.clear()
    return findings


def _options() -> list[str]:
    """Returns options by which pytest reads no file but those of the suite, and writes none."""
    return [
        *("-c", os.devnull, f"--rootdir={DIRECTORY}", f"--confcutdir={DIRECTORY}"),
        *("--import-mode=importlib", "--strict-markers", "-p", "no:cacheprovider", "-s"),
    ]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Takes away what would change the run: variables, and plugins of others."""
    kept = {name: os.environ.pop(name) for name in _ENVIRONMENT if name in os.environ}
    before = os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
        if before is not None:
            kept["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = before
        os.environ.update(kept)


@contextlib.contextmanager
def _stopped_by_signals(findings: Findings) -> Iterator[None]:
    """Lets the first signal to stop wait for the end of a test, so that nothing is left."""

    def stop(number: int, _: Any) -> None:
        findings.interrupt()
        signal.signal(number, before[signal.Signals(number)])

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

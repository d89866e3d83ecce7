"""What came of a run: told line by line while it runs, and kept."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

import grpc
import pytest

from tickcell.conformance import contract
from tickcell.conformance.caller import HINDRANCES, Refused, told
from tickcell.conformance.expectation import Unmet, shown

if TYPE_CHECKING:
    from tickcell.conformance.run import Target

# The names in a refusal's metadata by which it says what the server allows.
_BOUNDS = {"max", "min", "max_record_bytes", "max_request_rows", "max_message_bytes"}
_BOUNDED = {"series_count", "window_step_count", "idle_ttl_duration"}
# After one of these, each further test would only wait to fail.
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_WIDTH = 10
# More names than these nobody reads.
_MANY = 8


class Findings:
    """A plugin of pytest that takes the place of its own reports.

    Attributes:
      counts: of tests, by "passed", "failed" and "skipped".
      hindrance: why the server could not be tested any further; "" if it could.
      is_interrupted: whether somebody stopped it.
      unheard: why a line could not be written; None if all were.
      left: the sessions that could not be deleted at the end, and why not.
    """

    def __init__(
        self, areas: Sequence[str], target: Target | None, write: Callable[[str], None]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.hindrance = ""
        self.is_interrupted = False
        self.unheard: OSError | None = None
        self.left: dict[str, str] = {}
        self._areas, self._target, self._write = areas, target, write
        self._session: pytest.Session | None = None
        self._area, self._of_area, self._lines = "", Counter[str](), list[str]()
        self._skipped: dict[str, list[str]] = {}
        self._compared: tuple[str, str] | None = None

    @pytest.fixture(scope="session")
    def target(self) -> Target:
        """What is tested."""
        assert self._target is not None
        return self._target

    def interrupt(self) -> None:
        """Stops the run after the test that is running."""
        self.is_interrupted = True
        self._stop("interrupted")

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", contract.MARKER)
        config.pluginmanager.unregister(name="terminalreporter")

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if _area(item.nodeid) in self._areas]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if self._target is None:
            for item in session.items:
                self._say(f"{_area(item.nodeid):{_WIDTH}} {claim(item)}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Generator[None, None, None]:
        return (yield from _unless_bounded())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, None, None]:
        return (yield from _unless_bounded())

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> None:
        """Keeps what a failed assertion compared; pytest's own words for it are for programmers."""
        expected = shown(right) if op == "==" else f"{op} {shown(right)}"
        self._compared = (shown(left), expected)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        error = call.excinfo.value if call.excinfo else None
        if report.failed and error is not None:
            if isinstance(error, Refused) and error.reason in HINDRANCES:
                self.hindrance = error.summary
                self._stop(self.hindrance)
            elif isinstance(error, grpc.RpcError) and error.code() in _LOST:
                self._stop("the server is lost")
            report.longrepr = self._sentence(item, error)
        self._compared = None
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if _area(report.nodeid) != self._area:
            self._tell()
            self._area = _area(report.nodeid)
        if report.failed and self.hindrance:
            return
        if report.failed:
            self._lines.append(str(report.longrepr))
        elif report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            self._skipped.setdefault(reason, []).append(_claim(report.nodeid))
        if report.when == "call" or not report.passed:
            self._of_area[report.outcome] += 1

    def pytest_sessionfinish(self) -> None:
        self._tell()

    def _tell(self) -> None:
        """Writes what came of an area, and begins another."""
        if self._of_area:
            numbers = [
                f"{self._of_area[outcome]} {outcome}"
                for outcome in ("passed", "failed", "skipped")
                if self._of_area[outcome] or outcome == "passed"
            ]
            self._say(f"{self._area:{_WIDTH}} {', '.join(numbers)}")
        for line in [*self._lines, *itertools.starmap(_skips, self._skipped.items())]:
            self._say(f"{'':{_WIDTH}} {line}")
        self.counts += self._of_area
        self._of_area, self._lines, self._skipped = Counter(), [], {}

    def _say(self, line: str) -> None:
        try:
            self._write(line)
        except OSError as error:
            # Whoever read has gone: raised once all is deleted, and nothing inside pytest.
            self.unheard = self.unheard or error
            self._stop("nobody reads")

    def _stop(self, why: str) -> None:
        if self._session is not None:
            self._session.shouldstop = why

    def _sentence(self, item: pytest.Item, error: BaseException) -> str:
        """Returns a failure: what was claimed, sent, got and expected, and where it is written."""
        got, expected = self._told(error)
        point = getattr(error, "point", "") or _point(item)
        sent = shown(self._target.caller.sent) if self._target else ""
        return (
            f"failed: {claim(item)}: sent {sent}; got {got}; expected {expected}; "
            f"see {contract.named(point)}."
        )

    def _told(self, error: BaseException) -> tuple[str, str]:
        if isinstance(error, Unmet):
            return error.got, error.expected
        if isinstance(error, Refused):
            return error.summary, "an answer"
        if isinstance(error, grpc.RpcError):
            return f"gRPC's {told(error)}", "an answer"
        if self._compared:
            return self._compared
        return shown(f"{type(error).__name__}: {error}"), "what the test claims"


def claim(item: pytest.Item) -> str:
    """Returns what a test claims, in words."""
    return _claim(item.nodeid)


def _claim(nodeid: str) -> str:
    name, bracket, parameters = nodeid.rpartition("::")[2].partition("[")
    words = name.removeprefix("test_").replace("_s_", "'s ").replace("_", " ")
    return f"{words} {bracket}{parameters}" if bracket else words


def _skips(reason: str, claims: list[str]) -> str:
    """Returns which tests were skipped for a reason; a whole area of them by their number."""
    named = "; ".join(claims) if len(claims) <= _MANY else f"{len(claims)} tests"
    return f"skipped: {named}: {reason}."


def _area(nodeid: str) -> str:
    return nodeid.partition("::")[0].rpartition("/")[2].removeprefix("test_").removesuffix(".py")


def _point(item: pytest.Item) -> int | str:
    marker = item.get_closest_marker("contract")
    assert marker is not None, f"{item.nodeid} names no point of the contract"
    point: int | str = marker.args[0]
    return point


def _unless_bounded() -> Generator[None, None, None]:
    """Skips a test that asks for more than the server allows, by the server's own words."""
    try:
        return (yield)
    except Refused as refusal:
        is_bounded = refusal.metadata.get("field") in _BOUNDED and refusal.metadata.keys() & _BOUNDS
        if refusal.reason == "ARGUMENT_INVALID" and is_bounded:
            pytest.skip(f"needs more than the server allows: {str(refusal).rstrip('.')}")
        raise
    except grpc.RpcError as error:
        if "message larger than max" in (error.details() or ""):
            pytest.skip(f"needs a longer message than the server allows: {told(error)}")
        raise

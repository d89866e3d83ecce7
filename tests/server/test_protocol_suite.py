"""The tests, tested: the protocol suite runs at an address, and notices what must never happen."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from doubles.faulty_parts import CELL_FAULTS, CellFault, FaultyCell, ForgetfulStore
from doubles.in_process_server import InProcessServer
from doubles.moody_cell import MoodyCell
from protocol.caller import Caller
from server.serve_process import ServeProcess
from server.world import World, assert_counted
from tickcell.model import Bundle
from tickcell.server.catalogue import ServedModel
from tickcell.server.store import EmbeddedStore
from tickcell.v1 import session_service_pb2 as pb

TESTS = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def run_suite(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a part of the suite as somebody who has a server would."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(str(TESTS / "protocol"), "--address", address, *arguments),
        ],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_suite_passes_at_the_address_of_a_real_server(tmp_path: pathlib.Path) -> None:
    with ServeProcess("--listen", "localhost:0", "--store", str(tmp_path / "store")) as server:
        finished = run_suite(server.address, "-k", "test_steps or test_streams or test_models")
        assert finished.returncode == pytest.ExitCode.OK, finished.stdout
        assert " passed" in finished.stdout
        with Caller(server.address) as caller:
            left = caller.call(caller.sessions.ListSessions, pb.ListSessionsRequest())
        assert list(left.sessions) == []


def test_suite_refuses_a_server_of_which_it_cannot_tell_the_outputs(bundle: Bundle) -> None:
    model = ServedModel.of(bundle.card, bundle.cell(), "f" * 64)
    with InProcessServer([model]) as server:
        finished = run_suite(server.address)
    assert finished.returncode == pytest.ExitCode.USAGE_ERROR
    assert "its outputs cannot be told" in finished.stdout + finished.stderr


def suite_notices(model: ServedModel, records: EmbeddedStore | None = None) -> bool:
    with InProcessServer([model], records) as server:
        finished = run_suite(server.address, "--exitfirst", "-k", "test_steps")
    assert finished.returncode in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), finished
    return finished.returncode == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("fault", CELL_FAULTS)
def test_suite_notices_a_step_that_was(bundle: Bundle, fault: CellFault) -> None:
    cell = FaultyCell(bundle.cell(), fault)
    assert suite_notices(ServedModel.of(bundle.card, cell, bundle.fingerprint))


def test_suite_notices_a_step_that_was_acknowledged_and_not_stored(bundle: Bundle) -> None:
    assert suite_notices(ServedModel.load(bundle), ForgetfulStore())


@pytest.mark.parametrize("fault", [None, *CELL_FAULTS])
def test_numbers_of_a_counting_cell_show_a_step_that_was(fault: CellFault | None) -> None:
    cell = MoodyCell() if fault is None else FaultyCell(MoodyCell(), fault)
    world = World(cell=cell)
    world.create_all("a", "b")
    differs = False
    for step in range(10):
        requests = [world.request("a", step, [1.0]), world.request("b", step, [2.0])]
        world.run(*requests)
        for request, reading in zip(requests, (1.0, 2.0), strict=True):
            try:
                assert_counted(request, step, [reading])
            except AssertionError:
                differs = True
    assert differs == (fault is not None)

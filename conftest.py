"""What tests of every part share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import fast
import packages
import surroundings
from databases import Databases
from databases import databases as run_databases
from doubles.in_process_server import InProcessServer
from doubles.looped import looped
from tickcell.conformance.caller import Caller
from tickcell.conformance.run import Target
from tickcell.model import Bundle
from tickcell.server.catalogue import ServedModel
from tickcell.server.store import SqliteStore

PROJECT = Path(__file__).resolve().parent

surroundings.settle()

# How long an example takes is the machine's affair; a failure can be run again
# from the blob that it prints.
hypothesis.settings.register_profile("suite", deadline=None, print_blob=True)
# In CI the same examples every time: a run says something about the change.
hypothesis.settings.register_profile(
    "ci", hypothesis.settings.get_profile("suite"), derandomize=True
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--fast`."""
    parser.addoption("--fast", action="store_true", help="run neither TensorFlow nor processes")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Begins what `--fast` asks for: in each worker, not in the process that starts them."""
    if session.config.getoption("--fast") and not session.config.getoption("numprocesses", None):
        fast.begin(session.config)


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> Iterator[None]:
    """Ends what a test leaves running, whatever became of it, and says so."""
    with surroundings.left_behind() as left:
        yield
    assert not left, f"processes that the test left behind: {left}"


@pytest.fixture(scope="session")
def project() -> Path:
    """The checkout's directory."""
    return PROJECT


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The directory of real recordings, which are not part of the project.

    It is TICKCELL_RECORDINGS, else shared/data beside the checkout.
    """
    directory = Path(os.environ.get("TICKCELL_RECORDINGS", PROJECT.parent / "shared" / "data"))
    if not (directory / "trip17.csv").is_file():
        pytest.skip(f"no recordings in {directory}; name their directory in TICKCELL_RECORDINGS")
    return directory


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the checkout builds."""
    return packages.build(PROJECT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """A PostgreSQL, of which each test that wants one gets a new store."""
    with run_databases() as running:
        yield running


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """What the compliance suite tests as a part of this project: a server in this process."""
    bundle = Bundle.load()
    records = SqliteStore.open(tmp_path_factory.mktemp("conformance") / "store")
    with (
        InProcessServer([ServedModel.load(bundle)], records) as server,
        Caller(server.address) as caller,
    ):
        yield Target(caller, looped(bundle, caller))
        assert caller.clear() == {}
    records.close()

"""What tests of every part share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import packages
import surroundings

PROJECT = Path(__file__).resolve().parents[1]

surroundings.settle()

# How long an example takes is the machine's affair; a failure can be run again
# from the blob that it prints.
hypothesis.settings.register_profile("suite", deadline=None, print_blob=True)
# In CI the same examples every time: a run says something about the change.
hypothesis.settings.register_profile(
    "ci", hypothesis.settings.get_profile("suite"), derandomize=True
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "suite")


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

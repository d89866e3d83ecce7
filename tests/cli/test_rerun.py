"""`tickcell rerun`, as a person runs it on what a server recorded."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from doubles.bundle_variant import variant
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session
from tickcell.model import Bundle


def rerun(*arguments: object) -> tuple[int, str, str]:
    """Runs the command; returns its exit status, and what it wrote to both."""
    command = [sys.executable, "-m", "tickcell.cli", "rerun", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory, frames: np.ndarray) -> pathlib.Path:
    """The files of a server that was killed once, in a drive of 100 steps."""
    place = tmp_path_factory.mktemp("flights")
    with (
        ServerProcess(place, "--record", str(place / "flights"), listen="localhost:0") as server,
        Session.create(server.address, "car") as car,
    ):
        car.steps(frames[:60])
        server.stop()
        server.restart()
        car.steps(frames[60:100])
        server.stop()
        car.detach()
    return place / "flights"


def test_what_agrees_is_summed_up_and_shown_if_asked_for(flights: pathlib.Path) -> None:
    status, said, complaints = rerun(flights)
    assert (status, complaints) == (0, "")
    assert said.splitlines() == [
        "2 files, 1 session, 100 steps; of 2 segments, 2 agree to the bit, 0 differ",
        "no step is missing between segments",
    ]
    status, said, _ = rerun(flights, "--all")
    first, second = sorted(path.name for path in flights.iterdir())
    rows = [line.split() for line in said.splitlines()[:2]]
    assert [(row[0], *row[2:]) for row in rows] == [
        ("car", "0", "to", "59", "agrees", first),
        ("car", "60", "to", "99", "agrees", second),
    ]


def test_what_lies_between_files_is_named(flights: pathlib.Path, tmp_path: pathlib.Path) -> None:
    _, second = sorted(flights.iterdir())
    status, said, _ = rerun(second)
    assert status == 0
    assert said.split("  ")[1:3] == ["before 60", "unknown"]
    assert "1 file, 1 session, 40 steps; of 1 segment, 1 agree to the bit, 0 differ" in said


def test_recording_of_a_model_that_is_not_given_is_not_run(
    flights: pathlib.Path, bundle: Bundle, tmp_path: pathlib.Path
) -> None:
    variant(bundle, "2").write(tmp_path / "other")
    status, said, _ = rerun(flights, "--bundle", tmp_path / "other")
    assert status == 1
    assert "not run" in said
    assert f"drive 1 with the fingerprint {bundle.fingerprint[:12]}, is in none" in said
    assert "of 2 segments, 0 agree to the bit, 0 differ, 2 could not be run" in said


def test_damage_in_a_file_is_said_and_what_comes_before_is_run(
    flights: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    content = bytearray(min(flights.iterdir()).read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged = tmp_path / "tickcell-damaged.mcap"
    damaged.write_bytes(content)
    status, _, complaints = rerun(damaged)
    assert status == 1
    assert complaints.startswith("tickcell: tickcell-damaged.mcap: damaged at byte ")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"no MCAP at all", "is not an MCAP file."), (b"", "not finished: ")],
)
def test_file_that_is_no_recording_is_refused_in_a_sentence(
    tmp_path: pathlib.Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "tickcell-none.mcap"
    path.write_bytes(content)
    _, _, complaints = rerun(path)
    assert complaint in complaints
    assert "Traceback" not in complaints


def test_directory_without_a_recording_is_refused_in_a_sentence(tmp_path: pathlib.Path) -> None:
    status, said, complaints = rerun(tmp_path)
    assert (status, said) == (1, "")
    assert complaints == (
        f"tickcell: {tmp_path}: has no flight recording, which is called tickcell-*.mcap.\n"
    )

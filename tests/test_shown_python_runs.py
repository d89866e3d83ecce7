"""The Python that documents and docstrings show does what they say, as it stands there."""

from __future__ import annotations

import ast
import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import documents
from doubles.authority import Authority
from doubles.in_process_server import InProcessServer
from doubles.known_callers import KnownCallers
from tickcell.cli import samples, server_process
from tickcell.client import (
    AsyncGateway,
    AsyncPacedSession,
    AsyncSession,
    Gateway,
    PacedSession,
    Session,
    TickcellError,
)
from tickcell.model import Bundle, recording
from tickcell.server.catalogue import ServedModel

PROJECT = Path(__file__).resolve().parents[1]
SHOWN_ADDRESS = '"localhost:50061"'
SHOWN_SERVERS = '"a.example:50061", "b.example:50061", "c.example:50061"'
SHOWN_SECURE_ADDRESS = '"plant.example:50061"'
BLOCKS = [
    pytest.param(block.code, id=f"{name}:{block.line}")
    for name in ("README.md", "docs/client.md")
    for block in documents.Document.read(PROJECT / name).blocks
    if block.language == "python"
]
# The public packages, without those that import TensorFlow.
DOCSTRINGS = [
    pytest.param(block.code, id=f"{path.relative_to(PROJECT)}:{block.line}")
    for part in ("client/tickcell/client", "model/tickcell/model", "model/tickcell/model/recording")
    for path in sorted((PROJECT / part).glob("*.py"))
    for block in documents.in_docstrings(path)
]
# Which test runs the Python of each document.
RUN_BY = {
    "README.md": "tests/test_shown_python_runs.py",
    "docs/client.md": "tests/test_shown_python_runs.py",
    "docs/pytorch.md": "tests/model/test_other_frameworks.py",
    "docs/recordings.md": "tests/cli/test_public_sets.py",
    "docs/training.md": "tests/test_shown_python_runs.py",
    "docs/triton.md": "tests/oip/test_clients.py",
    "docs/tutorial.md": "tests/model/test_tutorial.py",
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server_process.temporary() as server:
        yield server.address


@pytest.fixture(scope="module")
def secure_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with TLS and tokens; the files that a caller needs are in the current directory."""
    directory = tmp_path_factory.mktemp("secure")
    authority = Authority()
    authority.server().write(directory / "tls.crt", directory / "tls.key")
    (directory / "plant-ca.crt").write_bytes(authority.certificate)
    known = KnownCallers(directory)
    (directory / "robot-7.token").write_text(known.draw("robot-7"))
    options: dict[str, Any] = {
        "tls_certificate": directory / "tls.crt",
        "tls_key": directory / "tls.key",
    }
    with (
        InProcessServer([ServedModel.load(Bundle.load())], **options, **known.options) as server,
        contextlib.chdir(directory),
    ):
        yield server.address


class Countdown:
    """True a few times, then false."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __bool__(self) -> bool:
        self.left -= 1
        return self.left >= 0


def test_python_of_each_document_is_run_by_a_test() -> None:
    shown = {
        str(document.path.relative_to(PROJECT))
        for document in documents.read_all(PROJECT)
        if any(block.language == "python" for block in document.blocks)
    }
    assert shown == {*RUN_BY}
    for document, test in RUN_BY.items():
        assert Path(document).name in (PROJECT / test).read_text(encoding="utf-8")


def test_docstrings_of_the_public_packages_show_python() -> None:
    assert {str(each.id).partition(":")[0] for each in DOCSTRINGS} >= {
        "client/tickcell/client/__init__.py",
        "client/tickcell/client/async_session.py",
        "client/tickcell/client/pacing.py",
        "client/tickcell/client/session.py",
        "model/tickcell/model/__init__.py",
    }


def test_shown_set_of_sequences_is_read_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = documents.Document.read(PROJECT / "docs" / "training.md")
    [block] = [block for block in document.blocks if block.language == "python"]
    frames = np.ones((4, 7, 3), np.float32)
    monkeypatch.chdir(tmp_path)
    exec(block.code, {"np": np, "frames": frames, "labels": np.arange(4) % 2})
    sensors = Bundle.load().interface.sensors[:3]
    read = recording.read_all(tmp_path / "sequences.npz", sensors, rate_hz=50, labelled=True)
    assert [each.frames.shape for each in read] == [(7, 3)] * 4


@pytest.mark.parametrize("code", BLOCKS + DOCSTRINGS)
def test_shown_python_gives_the_outputs_of_the_plain_loop(
    code: str, address: str, secure_address: str
) -> None:
    frames = samples.shipped().frames[:5]
    readings, acted = iter(frames), list[Any]()
    with Session.create(address) as session:
        # What the documents take for granted, and no more.
        names: dict[str, Any] = {
            "recording": frames,
            "session": session,
            "driving": Countdown(len(frames)),
            "read_sensors": lambda: next(readings),
            "sensor": frames,
            "act": acted.append,
            "SAFE": None,
            # A class's own docstring.
            "AsyncGateway": AsyncGateway,
            "AsyncPacedSession": AsyncPacedSession,
            "AsyncSession": AsyncSession,
            "Gateway": Gateway,
            "PacedSession": PacedSession,
            "Session": Session,
            "TickcellError": TickcellError,
            "robots": (robots := ["robot-1", "robot-2"]),
            "ticks": [dict.fromkeys(robots, frame) for frame in frames],
        }
        code = code.replace(SHOWN_ADDRESS, repr(address))
        # Two of three are away.
        code = code.replace(SHOWN_SERVERS, f"'127.0.0.1:1', {address!r}, '127.0.0.1:2'")
        code = code.replace(SHOWN_SECURE_ADDRESS, repr(secure_address))
        shown = compile(code, "shown", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        # What awaits is a coroutine.
        if (running := eval(shown, names)) is not None:
            asyncio.run(running)
        if "drive" in names:
            asyncio.run(names["drive"](frames, acted.append))
            names["output"] = acted[-1]
    cell = Bundle.load().cell()
    state = cell.initial_state()
    for frame in frames:
        output, state = cell.step(frame, state)
    # A tick of the paced loop may be late; then its action is the safe one.
    if names["output"] is not None:
        np.testing.assert_array_equal(np.ravel(names["output"]), np.ravel(output))

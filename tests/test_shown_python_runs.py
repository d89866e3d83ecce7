"""The Python that README and the client's guide show does what they say, as it stands there."""

from __future__ import annotations

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
from tickcell.client import Session
from tickcell.model import Bundle
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


@pytest.mark.parametrize("code", BLOCKS)
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
            "robots": (robots := ["robot-1", "robot-2"]),
            "ticks": [dict.fromkeys(robots, frame) for frame in frames],
        }
        code = code.replace(SHOWN_ADDRESS, repr(address))
        # Two of three are away.
        code = code.replace(SHOWN_SERVERS, f"'127.0.0.1:1', {address!r}, '127.0.0.1:2'")
        exec(code.replace(SHOWN_SECURE_ADDRESS, repr(secure_address)), names)
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

"""A program ends when it ends, whatever of ours is still open then, and in whatever thread."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tickcell.cli.server_process import ServerProcess

# Far longer than any of these takes, and far shorter than for ever.
_LIMIT_S = 60

# gRPC's own handlers of a fork start threads in the child, which may wait there for ever for a
# lock that a thread of the parent held: docs/client.md says so to whoever forks.
_ENVIRONMENT = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"}

PROGRAM = """
import itertools, os, sys, threading
import numpy as np
from tickcell.client import PacedSession, Session

session = Session.create(sys.argv[1])
sensors = session.model.sensors
frame = np.array([(each.min_reading + each.max_reading) / 2 for each in sensors], np.float32)
frames = [frame] * 10

def endless():
    return session.stream(itertools.repeat(frame))

def blocking():
    yield frame
    threading.Event().wait()
"""

# By name: what the program does last, and the status with which it ends.
ENDS = {
    "exception in a loop over a named stream": (
        "g = session.stream(iter(frames))\nfor output in g: raise RuntimeError('mine')",
        1,
    ),
    "sys.exit in a loop": ("g = endless()\nfor output in g: sys.exit(3)", 3),
    "end after break": ("g = endless()\nfor output in g: break", 0),
    "end after some outputs": ("g = session.stream(iter(frames))\nfor _ in range(3): next(g)", 0),
    "exception in a function": (
        "def drive():\n    g = endless()\n    for output in g: raise RuntimeError('mine')\ndrive()",
        1,
    ),
    "exception in a with block": (
        "with session:\n    g = endless()\n    for output in g: raise RuntimeError('mine')",
        1,
    ),
    "end while a draw is open": ("g = session.stream(blocking())\nnext(g)", 0),
    "end with a session": ("session.step(frame)", 0),
    "end with a session's stream": ("for frame in frames: session.step(frame)", 0),
    "exception with a session's stream": ("for frame in frames: session.step(frame)\n1 / 0", 1),
    "end while a thread of the program steps": (
        "has_begun = threading.Event()\n"
        "def drive():\n"
        "    while True:\n        session.step(frame)\n        has_begun.set()\n"
        "thread = threading.Thread(target=drive, daemon=True)\nthread.start()\nhas_begun.wait()",
        0,
    ),
    "sys.exit in a forked child of a session with a stream": (
        "for frame in frames: session.step(frame)\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "session.step(frame)",
        0,
    ),
    "exception in a forked child of a session with a stream": (
        "with session:\n"
        "    for frame in frames: session.step(frame)\n"
        "    child = os.fork()\n"
        "    if child == 0: raise RuntimeError('mine')\n"
        "    assert os.waitpid(child, 0)[1] == 256\n"
        "    session.step(frame)",
        0,
    ),
    "end with a pipeline": (
        "pipeline = session.pipeline(backlog=9)\npipeline.push(b'\\0' * 40)",
        0,
    ),
    "end with a paced loop": (
        "paced = PacedSession(session, rate_hz=50)\npaced.tick(frame)\npaced.__enter__()",
        0,
    ),
    "exception in a paced loop": (
        "with PacedSession(session, rate_hz=50) as paced:\n    paced.tick(frame)\n    1 / 0",
        1,
    ),
    "end while a thread of the program is in a stream": (
        "has_begun = threading.Event()\n"
        "def drive():\n    for output in endless(): has_begun.set()\n"
        "thread = threading.Thread(target=drive, daemon=True)\nthread.start()\nhas_begun.wait()",
        0,
    ),
    "exception in a thread of the program": (
        "def drive():\n    g = endless()\n    for output in g: raise RuntimeError('mine')\n"
        "thread = threading.Thread(target=drive)\nthread.start()\nthread.join()",
        0,
    ),
    "several sessions": (
        "others = [Session.create(sys.argv[1]) for _ in range(5)]\n"
        "streams = [each.stream(itertools.repeat(frame)) for each in others]\n"
        "for each in streams: next(each)",
        0,
    ),
    "sys.exit in a forked child": (
        "g = endless()\nnext(g)\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "next(g)",
        0,
    ),
    "exception in a forked child": (
        "g = endless()\n"
        "for output in g:\n"
        "    child = os.fork()\n"
        "    if child == 0: raise RuntimeError('mine')\n"
        "    assert os.waitpid(child, 0)[1] == 256\n"
        "    break",
        0,
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_program_ends(server: ServerProcess, name: str) -> None:
    last, status = ENDS[name]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + last, server.address],
        capture_output=True,
        text=True,
        check=False,
        env=_ENVIRONMENT,
        timeout=_LIMIT_S,
    )
    assert done.returncode == status, done.stderr
    assert "atexit" not in done.stderr

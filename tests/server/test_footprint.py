"""What a serving process is made of: no TensorFlow, little memory, and soon there."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import pathlib
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import numpy as np
import pytest

from doubles.looped import looped
from server.serve_process import ServeProcess, resident_bytes
from tickcell import wire
from tickcell.conformance.caller import Caller, StreamPath
from tickcell.conformance.subject import Subject
from tickcell.model import Bundle
from tickcell.v1 import session_service_pb2 as pb

STREAMS = 32
# It would be 525 MB with TensorFlow.
MAX_RESIDENT_BYTES = 100_000_000


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[ServeProcess]:
    begin = time.monotonic()
    with ServeProcess("--listen", "localhost:0", "--store", str(tmp_path / "store")) as process:
        print(f"serving {time.monotonic() - begin:.2f} s after its start")
        yield process


def run_streams(server: ServeProcess, bundle: Bundle, seconds: float) -> int:
    """Runs streams as fast as they go, for so long or one recording; returns how many steps."""
    end = time.monotonic() + seconds

    def run() -> int:
        steps = 0
        with Caller(server.address) as caller, StreamPath(caller) as stream:
            course = looped(bundle, caller)
            while time.monotonic() < end:
                subject = Subject(caller, course)
                for _ in subject.frames:
                    subject.advance(stream)
                    steps += 1
                caller.clear()
        return steps

    with futures.ThreadPoolExecutor(STREAMS) as pool:
        return sum(each.result() for each in [pool.submit(run) for _ in range(STREAMS)])


def test_serving_process_has_no_tensorflow_in_it(server: ServeProcess, bundle: Bundle) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed, so that nothing could import it")
    run_streams(server, bundle, 0.0)
    maps = pathlib.Path(f"/proc/{server.pid}/maps").read_text()
    assert "ai_edge_litert" in maps
    assert "tensorflow" not in maps.lower()


@pytest.mark.parametrize("seconds", [1.0, pytest.param(10.0, marks=pytest.mark.slow)])
def test_serving_process_stays_small(server: ServeProcess, bundle: Bundle, seconds: float) -> None:
    before = resident_bytes(server.pid)
    steps = run_streams(server, bundle, seconds)
    after = resident_bytes(server.pid)
    print(
        f"resident: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after {steps} steps over "
        f"{STREAMS} streams in {seconds:g} s or more"
    )
    assert after < MAX_RESIDENT_BYTES


@pytest.mark.slow
def test_streams_that_read_no_answer_take_bounded_memory(server: ServeProcess) -> None:
    """Each sends 330 KB requests for as long as it may; it used to take 6 MB and more."""
    before = resident_bytes(server.pid)
    request = {"series_count": 256, "window_step_count": 32}
    frames = np.zeros((32, 256, 10), np.float32).tobytes()

    def requests(session: pb.Session) -> Iterator[bytes]:
        for step in itertools.count(0, 32):
            yield wire.StreamStepsRequest(
                session=session.id,
                generation=session.generation,
                first_step=step,
                step_count=32,
                frames=frames,
            ).SerializeToString()

    with contextlib.ExitStack() as stack:
        for _ in range(STREAMS):
            # Of a connection each.
            option = ("grpc.use_local_subchannel_pool", 1)
            caller = stack.enter_context(Caller(server.address, option))
            stream: Any = caller.channel.stream_stream("/tickcell.v1.SessionService/StreamSteps")
            stack.callback(stream(requests(caller.create(**request))).cancel)
        history = [before]
        # Until it stands still for three seconds.
        while len(history) < 4 or history[-1] > history[-4] + 2_000_000:
            time.sleep(1.0)
            history.append(resident_bytes(server.pid))
    each = (history[-1] - before) / STREAMS
    print(f"resident: {before / 1e6:.0f} MB, then {[round(size / 1e6) for size in history]} MB")
    assert each < 3_000_000

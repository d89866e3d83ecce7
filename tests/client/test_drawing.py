"""Every frame that is drawn from a source is answered, or kept as unanswered, or raised."""

from __future__ import annotations

import contextlib
import itertools
import operator
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles.awaited_session import paced_loop
from doubles.bytes_encoder import BytesEncoder
from doubles.counted_source import (
    BlockingSource,
    CountedSource,
    SensorGoneError,
    generator_over,
    wait_until,
)
from doubles.roomy_pipeline import RoomyPipeline
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, errors
from tickcell.client.drawing import ThreadDrawing

COUNT = 40


class Leaving(Exception):
    """A caller's own exception."""


class Streaming:
    """A caller that streams a source, leaves in some way, and goes on in some way.

    Attributes:
      outputs: that it got.
    """

    def __init__(self, session: Session, source: CountedSource, iterator: Any) -> None:
        self.session = session
        self.source = source
        self.iterator = iterator
        self.outputs: list[np.ndarray] = []
        # What the caller took over and has not streamed yet.
        self.held: list[Iterator[np.ndarray]] = []

    def loop(self, count: int, leave: str) -> None:
        """Takes up to so many outputs, and leaves."""
        stream = self.session.stream(self.iterator)
        with contextlib.suppress(Leaving, SensorGoneError):
            for output in stream:
                self.outputs.append(output)
                count -= 1
                if count == 0 and leave == "break":
                    break
                if count == 0 and leave == "exception":
                    raise Leaving
                if count == 0 and leave == "close":
                    stream.close()  # type: ignore[attr-defined] # it is a generator
                    break

    def settle(self) -> None:
        """Waits for the draw that is open, and counts."""
        if isinstance(self.source, BlockingSource):
            if self.session.drawing:
                self.source.let(1)
            wait_until(lambda: not self.session.drawing)
        wait_until(lambda: not self.session.drawing)
        held = sum(map(operator.length_hint, self.held))
        assert self.source.drawn == len(self.outputs) + len(self.session.unanswered) + held
        assert self.session.next_step == len(self.outputs)

    def go_on(self, how: str) -> None:
        """Sends what is unanswered, where the next stream is not to do it."""
        frames = self.session.unanswered
        if how == "steps" and len(frames):
            self.outputs += list(self.session.steps(frames))
        if how == "stream of them":
            self.outputs += self.session.stream(frames)
        if how == "chain" and not self.session.drawing:
            self.held.append(iter(list(frames)))
            self.iterator = itertools.chain(self.held[-1], self.iterator)

    def finish(self) -> None:
        """Streams the rest, whatever it raises in between."""
        while True:
            if isinstance(self.source, BlockingSource):
                self.source.let(2 * COUNT)
            with contextlib.suppress(SensorGoneError):
                self.outputs += self.session.stream(self.iterator)
                break


SOURCES = st.sampled_from(["iterator", "generator", "blocking", "blocking generator"])
WAYS = st.lists(
    st.tuples(
        st.integers(1, 12),
        st.sampled_from(["break", "exception", "close"]),
        st.sampled_from(["same", "steps", "stream of them", "chain"]),
        st.booleans(),
    ),
    max_size=5,
)


def source_of(kind: str, frames: np.ndarray, raises_at: set[int]) -> tuple[CountedSource, Any]:
    # A generator ends with what it raises; the others go on after it.
    raises_at = raises_at if "generator" not in kind else set()
    blocks = kind.startswith("blocking")
    source = (BlockingSource if blocks else CountedSource)(frames, raises_at)
    return source, generator_over(source) if "generator" in kind else source


def drive(streaming: Streaming, ways: list[tuple[int, str, str, bool]]) -> None:
    for count, leave, how, settles in ways:
        # Outputs come only for frames that are let through, which cannot be too few.
        if isinstance(streaming.source, BlockingSource):
            streaming.source.let(count + 1)
        streaming.loop(count, leave)
        if settles:
            streaming.settle()
        streaming.go_on(how)
    streaming.finish()
    streaming.settle()


@given(kind=SOURCES, ways=WAYS, raises_at=st.sets(st.integers(0, COUNT - 1), max_size=3))
def test_no_frame_is_lost_however_loops_are_left_and_gone_on_with(
    drawing_sessions: type[Session],
    server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
    kind: str,
    ways: list[tuple[int, str, str, bool]],
    raises_at: set[int],
) -> None:
    source, iterator = source_of(kind, frames[:COUNT], raises_at)
    with drawing_sessions.create(server.address) as session:
        streaming = Streaming(session, source, iterator)
        drive(streaming, ways)
    assert np.stack(streaming.outputs).tobytes() == expected[:COUNT].tobytes()
    assert source.drawn == COUNT


@pytest.mark.parametrize("seed", range(2))
def test_no_frame_is_lost_while_the_server_is_killed_at_random(
    drawing_sessions: type[Session],
    mortal_server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
    seed: int,
) -> None:
    """A patient caller sees nothing of it; one without patience streams the source again."""
    chance = random.Random(seed)
    source = CountedSource(frames)
    outputs: list[np.ndarray] = []
    is_over = threading.Event()

    def kill_and_restart() -> None:
        for _ in range(4):
            if is_over.wait(chance.uniform(0.0, 0.2)):
                return
            mortal_server.kill()
            mortal_server.restart()

    killer = threading.Thread(target=kill_and_restart)
    retry_for_s = 0.0 if seed % 2 else 60.0
    with drawing_sessions.create(mortal_server.address, retry_for_s=retry_for_s) as session:
        killer.start()
        try:
            while source.drawn < len(frames) or len(session.unanswered):
                with contextlib.suppress(errors.UnavailableError):
                    for output in session.stream(source, max_chunk=1 + 3 * seed):
                        outputs.append(output)
                        # So that kills fall into the stream, however fast it is.
                        is_over.wait(0.002)
                wait_until(lambda: not session.drawing)
                assert source.drawn == len(outputs) + len(session.unanswered)
        finally:
            is_over.set()
            killer.join()
    assert np.stack(outputs).tobytes() == expected.tobytes()


def test_a_draw_that_is_open_when_the_loop_is_left_stays_the_session_s(
    drawing_sessions: type[Session],
    server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
) -> None:
    source = BlockingSource(frames[:COUNT])
    source.let(10)
    with drawing_sessions.create(server.address) as session:
        outputs = list(itertools.islice(session.stream(source), 10))
        wait_until(lambda: session.drawing)
        assert len(session.unanswered) == 0
        source.let(1)
        wait_until(lambda: not session.drawing)
        assert session.unanswered.tolist() == frames[10:11].tolist()
        source.let(2 * COUNT)
        outputs += session.stream(source)
        assert len(session.unanswered) == 0
    assert np.stack(outputs).tobytes() == expected[:COUNT].tobytes()


def test_while_a_draw_is_open_its_iterator_is_no_other_session_s(
    drawing_sessions: type[Session],
    server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
) -> None:
    source = BlockingSource(frames[:COUNT])
    with (
        drawing_sessions.create(server.address) as session,
        drawing_sessions.create(server.address) as other,
    ):
        stream = session.stream(source)
        source.let(1)
        outputs = [next(stream)]
        with pytest.raises(errors.UsageError, match="one iterator is for one session at a time"):
            next(other.stream(source))
        stream.close()  # type: ignore[attr-defined] # it is a generator
        wait_until(lambda: session.drawing)
        with pytest.raises(errors.UsageError, match="one iterator is for one session at a time"):
            next(other.stream(source))
        source.let(2 * COUNT)
        outputs += session.stream(source)
        # Nobody draws from it any more.
        assert list(other.stream(source)) == []
    assert np.stack(outputs).tobytes() == expected[:COUNT].tobytes()


def test_while_a_draw_is_open_another_iterator_is_refused_and_a_list_is_not(
    drawing_sessions: type[Session],
    server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
) -> None:
    source = BlockingSource(frames[1:COUNT])
    with drawing_sessions.create(server.address) as session:
        stream = session.stream(source)
        source.let(1)
        next(stream)
        stream.close()  # type: ignore[attr-defined] # it is a generator
        with pytest.raises(errors.UsageError, match="or wait until"):
            next(session.stream(iter(frames)))
        with pytest.raises(errors.UsageError, match="or wait until"):
            paced_loop(session, rate_hz=50)
        session.reset()
        assert next(session.stream(frames[:1])) == expected[0]
        source.let(1)
        wait_until(lambda: not session.drawing)
        session.steps(session.unanswered)


def test_frames_that_nobody_has_read_are_not_passed_over(
    drawing_sessions: type[Session],
    server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
) -> None:
    source = CountedSource(frames[:COUNT])
    with drawing_sessions.create(server.address) as session:
        outputs = list(itertools.islice(session.stream(source), 3))
        wait_until(lambda: not session.drawing)
        with pytest.raises(errors.UsageError, match=r"frames of the previous loop have no output"):
            next(session.stream(iter(frames)))
        rest = itertools.chain(session.unanswered, source)
        outputs += session.stream(rest)
    assert np.stack(outputs).tobytes() == expected[:COUNT].tobytes()


def test_a_frame_of_another_shape_is_raised_at_its_turn_and_those_behind_it_go_on(
    drawing_sessions: type[Session],
    server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
) -> None:
    source = iter([*frames[:10], frames[10][:9], *frames[10:20]])
    outputs: list[np.ndarray] = []
    with drawing_sessions.create(server.address) as session:
        for output in session.stream(source):
            outputs.append(output)
            break
        wait_until(lambda: not session.drawing)
        with pytest.raises(errors.FrameShapeError, match=r"shape \[9\]"):
            outputs.extend(session.stream(source))
        assert len(outputs) == 10
        outputs.extend(session.stream(source))
    assert np.stack(outputs).tobytes() == expected[:20].tobytes()


def test_what_a_source_raised_ahead_of_the_loop_is_raised_when_it_is_let_go(
    drawing_sessions: type[Session],
    server: ServerProcess,
    frames: np.ndarray,
) -> None:
    source = CountedSource(frames, raises_at={2})
    with drawing_sessions.create(server.address) as session:
        for _ in session.stream(source):
            wait_until(lambda: source.raised)
            break
        wait_until(lambda: not session.drawing)
        session.steps(session.unanswered)
        with pytest.raises(SensorGoneError):
            next(session.stream(iter(frames)))
        # Once.
        next(session.stream(iter(frames)))


def test_a_refused_frame_is_raised_and_those_behind_it_are_unanswered(
    drawing_sessions: type[Session],
    server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
) -> None:
    source = iter([*frames[:5], np.full(10, np.nan), *frames[5:12]])
    outputs: list[np.ndarray] = []
    with drawing_sessions.create(server.address) as session:
        with pytest.raises(errors.FrameNotFiniteError):
            outputs.extend(session.stream(source))
        outputs.extend(session.stream(source))
    assert np.stack(outputs).tobytes() == expected[:12].tobytes()


def test_a_session_that_is_closed_amid_its_stream_says_so(
    drawing_sessions: type[Session],
    server: ServerProcess,
    frames: np.ndarray,
) -> None:
    session = drawing_sessions.create(server.address)
    source = CountedSource(frames)
    outputs = []

    def loop() -> None:
        for output in session.stream(source):
            outputs.append(output)
            if len(outputs) == 3:
                session.close()

    with pytest.raises(errors.UsageError, match="was closed while its stream was open"):
        loop()
    wait_until(lambda: not session.drawing)
    assert source.drawn == 3 + len(session.unanswered)


def test_loop_that_is_left_while_it_waits_for_room_draws_no_more(frames: np.ndarray) -> None:
    source, kept = CountedSource(frames), list[bytes]()
    drawing = ThreadDrawing(source, BytesEncoder().as_encoder, kept.append)
    pipeline = RoomyPipeline(before_room=drawing.leave)
    drawing.feed(lambda: pipeline.as_pipeline, can_wait=True)
    wait_until(lambda: not _threads())
    assert (source.drawn, pipeline.frames, kept) == (0, [], [])


def test_thread_whose_start_was_interrupted_draws_nothing(
    frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LateThread(threading.Thread):
        def start(self) -> None:
            monkeypatch.undo()
            late.append(self)
            raise KeyboardInterrupt

    late: list[threading.Thread] = []
    source = BlockingSource(frames)
    drawing = ThreadDrawing(source, BytesEncoder().as_encoder, list[bytes]().append)
    monkeypatch.setattr(threading, "Thread", LateThread)
    with pytest.raises(KeyboardInterrupt):
        drawing.feed(lambda: RoomyPipeline().as_pipeline, can_wait=True)
    pipeline = RoomyPipeline()
    drawing.feed(lambda: pipeline.as_pipeline, can_wait=True)
    wait_until(lambda: drawing.is_open)
    # It is only now that the first one runs.
    (thread,) = late
    threading.Thread.start(thread)
    thread.join(timeout=60)
    assert not thread.is_alive()
    # Two threads in one source are its failure.
    assert drawing.failure is None
    source.let(1)
    wait_until(lambda: pipeline.frames)
    drawing.leave()
    source.let(1)
    wait_until(lambda: not _threads())
    assert pipeline.frames == [bytes(frames[0])]


def _threads() -> list[threading.Thread]:
    """Returns the threads that draw."""
    return [thread for thread in threading.enumerate() if thread.name == "tickcell-frames"]


INTERRUPTED = """
import signal, sys, threading
import numpy as np
from tickcell.client import Session

frames = np.load(sys.argv[2])
session = Session.create(sys.argv[1])
source, outputs, interrupts = iter(frames), [], 0
main = threading.main_thread().ident
is_over = threading.Event()
in_stream = False

def interrupt():
    while not is_over.wait(0.002):
        signal.pthread_kill(main, signal.SIGINT)

def once(signum, frame):
    # Only the stream is to be interrupted, and not what counts its interrupts.
    global in_stream
    if in_stream:
        in_stream = False
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, once)
nagger = threading.Thread(target=interrupt, daemon=True)

def stream():
    for output in session.stream(source, max_chunk=2):
        outputs.append(output)

def missed():
    # An output may be had by the loop and not be in its list: the window has it still.
    step = session.next_step
    while len(outputs) < step:
        session.rewind(len(outputs))
        outputs.append(session.step(frames[len(outputs)]))
    session.rewind(len(outputs))

nagger.start()
while not is_over.is_set():
    try:
        in_stream = interrupts < 60
        stream()
        in_stream = False
        is_over.set()
    except KeyboardInterrupt:
        interrupts += 1
nagger.join()
print(interrupts, session.next_step, len(session.unanswered))
missed()
np.save(sys.argv[3], np.stack(outputs))
"""


def test_ctrl_c_loses_no_frame(
    server: ServerProcess, frames: np.ndarray, expected: np.ndarray, tmp_path: Any
) -> None:
    np.save(tmp_path / "frames.npy", frames)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            INTERRUPTED,
            server.address,
            tmp_path / "frames.npy",
            tmp_path / "outputs.npy",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    interrupts, next_step, unanswered = map(int, done.stdout.split())
    assert (next_step, unanswered) == (len(frames), 0)
    assert interrupts > 5
    assert np.load(tmp_path / "outputs.npy").tobytes() == expected.tobytes()

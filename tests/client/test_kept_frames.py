"""Frames that are all there go out as there is room for them, and without a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from doubles.bytes_encoder import BytesEncoder
from doubles.counted_source import SensorGoneError
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, errors
from tickcell.client.frames import Encoder
from tickcell.client.kept_frames import KeptFrames, are_kept
from tickcell.client.pipeline import Pipeline


class NarrowPipeline:
    """A pipeline with room for so many frames, which answers none.

    Attributes:
      pushed: what it took, by the call.
      is_finished: whether no more frames come.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.pushed: list[list[bytes]] = []
        self.is_finished = False

    def push(self, *frames: bytes) -> int:
        assert len(frames) <= self.room
        self.room -= len(frames)
        self.pushed.append(list(frames))
        return 0

    def finish(self) -> None:
        self.is_finished = True


def fed(source: Any, room: int, encoder: Encoder | None = None) -> tuple[KeptFrames, Any]:
    """Returns kept frames that were given to a pipeline once."""
    pipeline = NarrowPipeline(room)
    kept = KeptFrames(source, encoder or BytesEncoder().as_encoder)
    kept.feed(lambda: cast("Pipeline", pipeline))
    kept.fill()
    return kept, pipeline


def test_as_many_are_taken_at_once_as_there_is_room_for() -> None:
    kept, pipeline = fed([b"a", b"b", b"c", b"d", b"e"], room=2)
    kept.fill()
    pipeline.room = 2
    kept.fill()
    assert pipeline.pushed == [[b"a", b"b"], [b"c", b"d"]]
    assert not pipeline.is_finished
    pipeline.room = 2
    kept.fill()
    assert (pipeline.pushed[2:], pipeline.is_finished) == ([[b"e"]], True)


def test_a_list_that_grows_while_it_is_streamed_is_streamed_to_its_end() -> None:
    source = [b"a", b"b"]
    kept, pipeline = fed(source, room=2)
    source.append(b"c")
    pipeline.room = 2
    kept.fill()
    assert pipeline.pushed == [[b"a", b"b"], [b"c"]]


def test_a_loop_that_was_left_takes_no_more() -> None:
    kept, pipeline = fed([b"a", b"b"], room=1)
    kept.leave()
    pipeline.room = 1
    kept.fill()
    assert pipeline.pushed == [[b"a"]]


class GoneSource(list[bytes]):
    """A list whose iterator fails after its frames."""

    def __iter__(self) -> Iterator[bytes]:
        yield from super().__iter__()
        raise SensorGoneError


def test_what_a_source_raises_comes_after_the_frames_before_it() -> None:
    kept, pipeline = fed(GoneSource([b"a", b"b"]), room=9)
    assert (pipeline.pushed, pipeline.is_finished) == ([[b"a", b"b"]], True)
    with pytest.raises(SensorGoneError):
        kept.check()
    kept.check()


def test_a_frame_that_cannot_be_encoded_comes_after_the_frames_before_it() -> None:
    kept, pipeline = fed([b"a", "text", b"c"], room=9)
    assert (pipeline.pushed, pipeline.is_finished) == ([[b"a"]], True)
    with pytest.raises(TypeError):
        kept.check()


@pytest.mark.parametrize(
    ("source", "kept"), [([], True), (np.ones((2, 3)), True), (iter([]), False)]
)
def test_lists_and_arrays_keep_their_frames(source: Any, kept: bool) -> None:
    assert are_kept(source) == kept


@pytest.mark.parametrize("kind", ["array", "list", "list of lists", "float64"])
@pytest.mark.parametrize("max_chunk", [None, 1, 7, 32])
def test_kept_frames_of_any_kind_are_streamed_without_a_thread(
    sessions: type[Session],
    server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
    kind: str,
    max_chunk: int | None,
) -> None:
    sources: dict[str, Any] = {
        "array": frames,
        "list": list(frames),
        "list of lists": frames.tolist(),
        "float64": frames.astype(np.float64),
    }
    outputs = []
    with sessions.create(server.address) as session:
        for output in session.stream(sources[kind], max_chunk=max_chunk):
            outputs.append(output)
            assert "tickcell-frames" not in {thread.name for thread in threading.enumerate()}
    assert np.stack(outputs).tobytes() == expected.tobytes()


def test_a_frame_of_another_shape_in_a_list_comes_after_the_outputs_before_it(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    source = [*frames[:40], frames[40][:9], *frames[40:50]]
    outputs: list[np.ndarray] = []
    with sessions.create(server.address) as session:
        with pytest.raises(errors.FrameShapeError, match=r"shape \[9\]"):
            outputs.extend(session.stream(source))
        assert (len(outputs), session.next_step, len(session.unanswered)) == (40, 40, 0)
        outputs.extend(session.stream(source[41:]))
    assert np.stack(outputs).tobytes() == expected[:50].tobytes()


def test_a_reading_in_a_list_that_cannot_be_mended_names_its_step(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray
) -> None:
    bad = frames[:30].copy()
    bad[20, 2] = np.nan
    outputs: list[np.ndarray] = []
    with sessions.create(server.address, on_dropout="clip") as session:
        with pytest.raises(errors.FrameNotFiniteError, match="step 20: lin_acc_z"):
            outputs.extend(session.stream(bad))
        assert (len(outputs), session.next_step) == (20, 20)

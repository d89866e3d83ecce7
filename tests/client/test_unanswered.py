"""Of the frames that a loop leaves, each is kept until it is answered, and none is passed over."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import pytest

from doubles.bytes_encoder import BytesEncoder
from doubles.counted_source import wait_until
from doubles.roomy_pipeline import RoomyPipeline
from tickcell.client import errors
from tickcell.client.drawing import Drawing
from tickcell.client.unanswered import Unanswered

A, B, C, LATE, LATER = (name.encode() for name in ("a", "b", "c", "late", "later"))


class Source:
    """An iterator that gives a frame once it has one."""

    def __init__(self) -> None:
        self.frames = queue.SimpleQueue[bytes]()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self.frames.get(timeout=60)


@pytest.fixture
def unanswered() -> Unanswered:
    return Unanswered("car")


@pytest.fixture
def source() -> Source:
    return Source()


def leave(unanswered: Unanswered, source: Source, *frames: bytes) -> Drawing:
    """Begins a loop over a source, and leaves it with these frames unanswered."""
    drawing = unanswered.drawing_from(source, BytesEncoder().as_encoder)
    assert isinstance(drawing, Drawing)
    unanswered.begin(drawing)
    unanswered.leave(frames)
    return drawing


def bring_late(drawing: Drawing, source: Source, frame: bytes) -> None:
    """Lets a draw bring a frame for which there is no pipeline any more."""
    drawing.feed(lambda: RoomyPipeline().as_pipeline, can_wait=True)
    wait_until(lambda: drawing.is_open)
    drawing.leave()
    source.frames.put(frame)
    wait_until(lambda: not drawing.is_open)


def test_what_is_answered_needs_no_other_reading(unanswered: Unanswered, source: Source) -> None:
    leave(unanswered, source, A, B)
    assert unanswered.read(None) == [A, B]
    unanswered.answer(A)
    assert unanswered.read(None) == [B]


def test_frame_that_nobody_has_read_is_not_passed_over_for_one_that_was_answered(
    unanswered: Unanswered, source: Source
) -> None:
    drawing = leave(unanswered, source, A, B)
    assert unanswered.read(None) == [A, B]
    unanswered.answer(A)
    bring_late(drawing, source, LATE)
    # Two are left, of which the caller has read one.
    with pytest.raises(errors.UsageError, match="1 frames"):
        unanswered.check_none_lost()


def test_answer_to_another_frame_takes_none_away(unanswered: Unanswered, source: Source) -> None:
    leave(unanswered, source, A, B)
    unanswered.answer(C)
    assert unanswered.read(None) == [A, B]


def test_late_frame_that_is_answered_is_gone(unanswered: Unanswered, source: Source) -> None:
    drawing = leave(unanswered, source)
    for frame in (LATE, LATER):
        bring_late(drawing, source, frame)
    unanswered.answer(LATE)
    assert unanswered.read(None) == [LATER]


def test_session_that_begins_anew_has_no_frame_of_the_life_before(
    unanswered: Unanswered, source: Source
) -> None:
    drawing = leave(unanswered, source, A)
    bring_late(drawing, source, LATE)
    unanswered.restart()
    assert unanswered.read(None) == []
    bring_late(drawing, source, LATER)
    assert unanswered.read(None) == [LATER]


def test_late_frames_of_a_loop_that_is_open_follow_its_own(
    unanswered: Unanswered, source: Source
) -> None:
    drawing = leave(unanswered, source, A)
    assert unanswered.begin(unanswered.drawing_from(source, BytesEncoder().as_encoder)) == [A]
    bring_late(drawing, source, LATE)
    assert unanswered.read([A, B]) == [A, B, LATE]
    unanswered.leave([A, B])
    assert unanswered.read(None) == [A, B, LATE]

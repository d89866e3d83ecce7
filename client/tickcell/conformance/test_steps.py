"""Steps that are accepted: new ones, stored ones, and requests that have both."""

from __future__ import annotations

import numpy as np
import pytest

from tickcell.conformance.caller import Caller, Path, Refused, StreamPath, UnaryPath
from tickcell.conformance.course import Course
from tickcell.conformance.subject import WINDOW, Scene, Subject, encoded
from tickcell.v1 import model_service_pb2

pytestmark = pytest.mark.contract(3)

PROMISE = "the promise, that outputs are those of the plain loop"


@pytest.mark.contract(PROMISE)
def test_steps_one_by_one_have_the_loop_s_outputs(path: Path, subject: Subject) -> None:
    for _ in range(3 * WINDOW):
        subject.advance(path)
    assert subject.now.next_step == 3 * WINDOW


@pytest.mark.contract(PROMISE)
def test_chunks_of_any_length_have_the_loop_s_outputs(path: Path, subject: Subject) -> None:
    for count in range(1, WINDOW + 1):
        subject.advance(path, count)
    assert subject.now.next_step == sum(range(WINDOW + 1))


@pytest.mark.contract(PROMISE)
def test_several_series_have_the_outputs_of_a_loop_each(path: Path, vector: Subject) -> None:
    for count in (1, WINDOW, 2, 1, 3):
        vector.advance(path, count)


def test_history_that_is_expected_is_no_hindrance(path: Path, vector: Subject) -> None:
    for first, count in ((0, 3), (3, 1), (3, 1), (0, 4), (2, 5), (7, 2), (1, 8)):
        expected = vector.history_before(first)
        request = vector.request(path, first, count, expected_history=expected)
        vector.hold_answer(path.send(encoded(request)), first, count)
    assert (vector.now.next_step, vector.now.history) == (9, vector.history_before(9))


def test_both_paths_may_advance_one_session_in_turn(caller: Caller, subject: Subject) -> None:
    with UnaryPath(caller) as unary, StreamPath(caller) as stream:
        for _ in range(WINDOW):
            subject.advance(unary)
            subject.advance(stream)


def test_duplicate_is_answered_with_the_stored_outputs(scene: Scene) -> None:
    before = scene.subject.now
    scene.subject.repeat(scene.path, scene.subject.next_step - 1)
    assert scene.subject.now == before
    scene.subject.advance(scene.path)


def test_every_step_of_the_window_can_be_repeated(scene: Scene) -> None:
    end = scene.subject.next_step
    before = scene.subject.now
    for first in range(end - WINDOW, end):
        for count in range(1, end - first + 1):
            scene.subject.repeat(scene.path, first, count)
    assert scene.subject.now == before


def test_overlap_is_answered_from_the_window_and_the_rest_is_applied(scene: Scene) -> None:
    end = scene.subject.next_step
    scene.subject.repeat(scene.path, end - 3, 5)
    scene.subject.next_step = end + 2
    assert scene.subject.now.next_step == end + 2
    scene.subject.advance(scene.path)


def test_overlap_as_long_as_the_window_is_answered(scene: Scene) -> None:
    end = scene.subject.next_step
    scene.subject.repeat(scene.path, end - WINDOW + 1, WINDOW)
    assert scene.subject.now.next_step == end + 1


def test_steps_match_however_they_were_chunked(path: Path, vector: Subject) -> None:
    vector.advance(path, 3)
    vector.advance(path)
    vector.advance(path, 4)
    for first, count in ((0, 8), (1, 4), (2, 2), (3, 5)):
        vector.repeat(path, first, count)
    assert vector.now.next_step == 8


def test_a_window_of_one_step_remembers_that_one(
    path: Path, caller: Caller, course: Course
) -> None:
    subject = Subject(caller, course, window_step_count=1)
    for step in range(3):
        subject.advance(path)
        subject.repeat(path, step)


def test_step_without_indices_is_applied_as_whatever_comes_next(
    caller: Caller, subject: Subject
) -> None:
    with UnaryPath(caller) as path:
        for step in range(4):
            expected = subject.history_before(step) if step % 2 else b""
            request = subject.request(
                path, step, first_step=None, generation=None, expected_history=expected
            )
            subject.hold_answer(path.send(encoded(request)), step)
    assert subject.now.next_step == 4


def test_unpacked_frames_are_the_same_frames(path: Path, subject: Subject) -> None:
    request = subject.request(path, 0, frames=np.empty(0, np.float32))
    tag = bytes([5 << 3 | 5])
    unpacked = b"".join(tag + reading.tobytes() for reading in subject.frames[0].ravel())
    subject.hold_answer(path.send(encoded(request) + unpacked), 0)
    subject.repeat(path, 0)


def test_fields_of_a_later_version_are_ignored(path: Path, subject: Subject) -> None:
    unknown = bytes([0x82, 0x7D, 3]) + b"new"
    subject.hold_answer(path.send(encoded(subject.request(path, 0)) + unknown), 0)


@pytest.mark.parametrize("bound", ["min_reading", "max_reading"])
def test_reading_at_the_end_of_its_sensor_s_range_is_within(
    path: Path, subject: Subject, served: model_service_pb2.Model, bound: str
) -> None:
    # As float32, which is what a saturated sensor and whoever clips send.
    frame = np.array([getattr(sensor, bound) for sensor in served.sensors], np.float32)
    for count in (1, 2):
        frames = np.tile(frame, (count, 1))
        first = subject.now.next_step
        request = subject.request(path, first, count, frames=frames)
        try:
            answer = path.send(encoded(request))
        except Refused as refusal:
            refusal.hold("OUTPUT_NOT_FINITE")
            pytest.skip("needs finite outputs at the end of the ranges; the model has none there")
        assert answer.step_count == count


@pytest.mark.contract(8)
def test_applied_steps_renew_the_session_and_repeated_ones_do_not(
    path: Path, subject: Subject
) -> None:
    created = subject.now
    subject.advance(path)
    stepped = subject.now
    assert stepped.renew_time.ToNanoseconds() > created.renew_time.ToNanoseconds()
    subject.repeat(path, 0)
    assert subject.now == stepped

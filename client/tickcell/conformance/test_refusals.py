"""Steps that are refused, each by its reason, with nothing changed for anyone.

`Scene.refused` holds most of the claims: the error's form, that the session is as it
was and goes on right, and that another session on the same path does.
"""

from __future__ import annotations

import math
import uuid

import numpy as np
import pytest
from google.protobuf import duration_pb2
from numpy.typing import NDArray

from tickcell.conformance.caller import Caller, Path, Refused, TogetherPath, UnaryPath
from tickcell.conformance.course import Course
from tickcell.conformance.subject import WINDOW, Scene, Subject, encoded, refused, refused_by_grpc
from tickcell.v1 import model_service_pb2

pytestmark = pytest.mark.contract(4)

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
# Of no session, on whatever server.
NOBODY = f"nobody-{uuid.uuid4()}"


def changed(
    frames: NDArray[np.float32], *place: int, to: float | None = None
) -> NDArray[np.float32]:
    """Returns frames with one reading changed; to any other one, where none is said."""
    frames = frames.copy()
    frames[place] = (-frames[place] or 1.0) if to is None else to
    return frames


def beyond(limit: np.float32, is_above: bool) -> float:
    """Returns a reading that is clearly outside a range that ends at a limit."""
    away = max(1.0, abs(float(limit))) * 0.001
    reading = float(limit) + (away if is_above else -away)
    if not np.isfinite(np.float32(reading)):
        pytest.skip("needs a reading outside a sensor's range, and float32 has none")
    return reading


@pytest.mark.contract(3)
@pytest.mark.parametrize("ahead", [1, 2, WINDOW, INT64_MAX - 64])
def test_step_behind_a_gap_is_refused_with_the_expected_index(scene: Scene, ahead: int) -> None:
    expected = scene.subject.next_step
    request = scene.subject.request(scene.path, expected, first_step=expected + ahead)
    refusal = scene.refused("STEP_GAP", request)
    assert int(refusal.metadata["next_step"]) == expected
    assert int(refusal.metadata["first_step"]) == expected + ahead


@pytest.mark.contract(3)
@pytest.mark.parametrize(("back", "count"), [(1, 1), (1, 2), (1, WINDOW), (3, 1), (4, WINDOW)])
def test_step_that_left_the_window_is_stale(scene: Scene, back: int, count: int) -> None:
    start = scene.subject.next_step - WINDOW
    refusal = scene.refused("STEP_STALE", scene.subject.request(scene.path, start - back, count))
    assert int(refusal.metadata["window_start_step"]) == start
    assert int(refusal.metadata["next_step"]) == start + WINDOW


@pytest.mark.contract(3)
@pytest.mark.parametrize("back", [1, WINDOW])
def test_stored_step_with_another_frame_is_a_conflict(scene: Scene, back: int) -> None:
    step = scene.subject.next_step - back
    frames = changed(scene.subject.frames[step], 0, 0)
    refusal = scene.refused("STEP_CONFLICT", scene.subject.request(scene.path, step, frames=frames))
    assert int(refusal.metadata["step"]) == step


@pytest.mark.contract(3)
@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_conflict_anywhere_in_an_overlap_refuses_its_new_steps_too(
    scene: Scene, wrong: int
) -> None:
    first = scene.subject.next_step - 3
    frames = changed(scene.subject.frames[first : first + 5], wrong, 0, 0)
    request = scene.subject.request(scene.path, first, 5, frames=frames)
    refusal = scene.refused("STEP_CONFLICT", request)
    assert int(refusal.metadata["step"]) == first + wrong


@pytest.mark.contract(3)
def test_conflict_in_one_of_several_series_is_a_conflict(vector_scene: Scene) -> None:
    step = vector_scene.subject.next_step - 1
    frames = changed(vector_scene.subject.frames[step], 2, 0)
    vector_scene.refused(
        "STEP_CONFLICT", vector_scene.subject.request(vector_scene.path, step, frames=frames)
    )


@pytest.mark.contract(3)
@pytest.mark.parametrize(("back", "count"), [(0, 1), (0, 3), (1, 1), (3, 2), (3, 5), (WINDOW, 1)])
def test_step_after_other_steps_than_are_expected_is_a_conflict(
    scene: Scene, back: int, count: int
) -> None:
    step = scene.subject.next_step - back
    other = scene.subject.history_before(step - 1)
    request = scene.subject.request(scene.path, step, count, expected_history=other)
    refusal = scene.refused("STEP_CONFLICT", request)
    assert int(refusal.metadata["step"]) == step
    assert refusal.metadata["expected_history"] == other.hex()
    assert refusal.metadata["history"] == scene.subject.history_before(step).hex()


@pytest.mark.parametrize("history", [b"h", bytes(7), bytes(9), bytes(80)], ids=len)
def test_history_of_another_length_is_refused(scene: Scene, history: bytes) -> None:
    step = scene.subject.next_step
    request = scene.subject.request(scene.path, step, expected_history=history)
    refusal = scene.refused("ARGUMENT_INVALID", request)
    assert refusal.metadata["field"] == "expected_history"


@pytest.mark.contract(3)
@pytest.mark.parametrize("generation", [-1, 0, 1, INT64_MAX])
def test_another_generation_is_a_session_that_was_restarted(scene: Scene, generation: int) -> None:
    step = scene.subject.next_step
    request = scene.subject.request(scene.path, step, generation=generation)
    refusal = scene.refused("SESSION_RESTARTED", request)
    assert int(refusal.metadata["generation"]) == scene.subject.generation
    assert int(refusal.metadata["next_step"]) == step


def test_late_step_of_the_life_before_a_reset_is_refused(scene: Scene) -> None:
    subject = scene.subject
    late = subject.request(scene.path, subject.next_step)
    subject.generation = subject.caller.reset(
        subject.id, subject.generation, str(uuid.uuid4())
    ).generation
    subject.next_step = 0
    scene.refused("SESSION_RESTARTED", late)


# Named, since what is drawn anew has no name that two processes could share.
@pytest.mark.parametrize(
    "session",
    ["", NOBODY, "*", NOBODY + "\0", "ü" * 63],
    ids=["nameless", "nobody", "star", "nul", "umlauts"],
)
def test_step_of_no_session_is_unknown(scene: Scene, session: str) -> None:
    step = scene.subject.next_step
    request = scene.subject.request(scene.path, step, session=session)
    # Of several in a message each must name another one, and so must name one.
    is_nameless = isinstance(scene.path, TogetherPath) and not session
    scene.refused("ARGUMENT_INVALID" if is_nameless else "SESSION_UNKNOWN", request)


def test_step_of_a_session_with_an_overlong_id_is_refused(scene: Scene) -> None:
    request = scene.subject.request(scene.path, scene.subject.next_step, session="n" * 5000)
    scene.refused("ARGUMENT_INVALID", request)


def test_step_of_a_deleted_session_is_refused_whatever_it_asks(scene: Scene) -> None:
    subject = scene.subject
    subject.caller.delete(subject.id, subject.generation)
    for first in (subject.next_step - 1, subject.next_step, subject.next_step + 1):
        refused(scene.path, "SESSION_DELETED", subject.request(scene.path, first))
    scene.bystander.advance(scene.path)


@pytest.mark.contract(8)
def test_step_of_an_expired_session_is_refused_and_does_not_revive_it(
    path: Path, caller: Caller, course: Course
) -> None:
    ttl = duration_pb2.Duration(nanos=200_000_000)
    subject = Subject(caller, course, idle_ttl_duration=ttl)
    subject.advance(path)
    subject.wait_until_ended()
    for first in (0, 1, 2):
        refused(path, "SESSION_EXPIRED", subject.request(path, first))


@pytest.mark.parametrize("reading", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("count", [1, 5])
def test_reading_that_is_no_number_is_refused_with_its_place(
    vector_scene: Scene, served: model_service_pb2.Model, reading: float, count: int
) -> None:
    subject = vector_scene.subject
    step = str(subject.next_step + count - 1)
    frames = subject.frames[subject.next_step : subject.next_step + count]
    frames = changed(frames, count - 1, 2, -1, to=reading)
    request = subject.request(vector_scene.path, subject.next_step, count, frames=frames)
    refusal = vector_scene.refused("FRAME_NOT_FINITE", request)
    place = {"step": step, "series": "2", "sensor": served.sensors[-1].name}
    assert refusal.metadata.items() >= {**place, "reading": str(reading)}.items()


@pytest.mark.parametrize("is_above", [False, True])
@pytest.mark.parametrize("overlap", [0, 2])
def test_reading_beyond_its_sensor_s_range_is_refused_with_its_place(
    vector_scene: Scene, served: model_service_pb2.Model, is_above: bool, overlap: int
) -> None:
    subject = vector_scene.subject
    sensor = served.sensors[-1]
    limit = np.float32(sensor.max_reading if is_above else sensor.min_reading)
    first = subject.next_step - overlap
    frames = changed(subject.frames[first : first + 5], 3, 1, -1, to=beyond(limit, is_above))
    request = subject.request(vector_scene.path, first, 5, frames=frames)
    refusal = vector_scene.refused("FRAME_OUT_OF_RANGE", request)
    assert (
        refusal.metadata.items()
        >= {
            "step": str(first + 3),
            "series": "1",
            "sensor": sensor.name,
            "unit": sensor.unit,
        }.items()
    )


@pytest.mark.parametrize("extra", [-10, -1, 1, 10])
def test_number_of_readings_that_does_not_fit_is_refused(scene: Scene, extra: int) -> None:
    subject = scene.subject
    readings = np.resize(subject.frames, max(0, subject.frames[:2].size + extra))
    request = subject.request(scene.path, subject.next_step, 2, frames=readings)
    refusal = scene.refused("FRAME_SHAPE", request)
    assert int(refusal.metadata["reading_count"]) == len(readings)


@pytest.mark.parametrize("count", [-INT32_MAX, -1, 0, WINDOW + 1, INT32_MAX])
def test_step_count_outside_one_to_the_window_is_refused(scene: Scene, count: int) -> None:
    subject = scene.subject
    request = subject.request(scene.path, subject.next_step, step_count=count)
    refusal = scene.refused("FRAME_SHAPE", request)
    assert refusal.metadata["max_step_count"] == str(WINDOW)


def test_empty_request_is_refused(scene: Scene) -> None:
    no_frames = np.empty(0, np.float32)
    request = scene.subject.request(scene.path, scene.subject.next_step, frames=no_frames)
    scene.refused("FRAME_SHAPE", request)


def test_huge_request_is_refused(scene: Scene) -> None:
    frames = np.ones(900_000, np.float32)
    request = scene.subject.request(scene.path, scene.subject.next_step, frames=frames)
    scene.refused("FRAME_SHAPE", request)


def test_negative_index_is_refused(scene: Scene) -> None:
    request = scene.subject.request(scene.path, scene.subject.next_step, first_step=-1)
    refusal = scene.refused("ARGUMENT_INVALID", request)
    assert refusal.metadata["field"] == "first_step"


@pytest.mark.parametrize("missing", ["generation", "first_step"])
def test_one_index_without_the_other_is_refused(scene: Scene, missing: str) -> None:
    request = scene.subject.request(scene.path, scene.subject.next_step)
    request.ClearField(missing)
    refusal = scene.refused("ARGUMENT_INVALID", request)
    assert refusal.metadata["field"] == missing


class TestOrderOfChecks:
    """A request that is wrong in two ways is refused for what is checked first."""

    def test_life_before_shape(self, scene: Scene) -> None:
        step = scene.subject.next_step
        request = scene.subject.request(scene.path, step, generation=1, step_count=0)
        scene.refused("SESSION_RESTARTED", request)

    def test_shape_before_finite(self, scene: Scene) -> None:
        frames = np.full(scene.subject.frames[0].size + 1, math.nan, np.float32)
        request = scene.subject.request(scene.path, scene.subject.next_step, frames=frames)
        scene.refused("FRAME_SHAPE", request)

    @pytest.mark.parametrize("first", [0, WINDOW, INT64_MAX])
    def test_finite_before_the_index(self, scene: Scene, first: int) -> None:
        frames = changed(scene.subject.frames[0], 0, 0, to=math.nan)
        scene.refused("FRAME_NOT_FINITE", scene.subject.request(scene.path, first, frames=frames))

    def test_stale_before_conflict(self, scene: Scene) -> None:
        frames = changed(scene.subject.frames[:WINDOW], 0, 0, 0)
        request = scene.subject.request(scene.path, 0, WINDOW, frames=frames)
        scene.refused("STEP_STALE", request)

    @pytest.mark.parametrize(("ahead", "reason"), [(1, "STEP_GAP"), (-WINDOW - 1, "STEP_STALE")])
    def test_gap_and_stale_before_history(self, scene: Scene, ahead: int, reason: str) -> None:
        step = scene.subject.next_step + ahead
        request = scene.subject.request(scene.path, step, expected_history=b"another!")
        scene.refused(reason, request)

    def test_finite_before_history(self, scene: Scene) -> None:
        step = scene.subject.next_step
        frames = changed(scene.subject.frames[step], 0, 0, to=math.nan)
        request = scene.subject.request(
            scene.path, step, frames=frames, expected_history=b"another!"
        )
        scene.refused("FRAME_NOT_FINITE", request)

    def test_history_before_range(self, scene: Scene) -> None:
        step = scene.subject.next_step
        frames = changed(scene.subject.frames[step], 0, 0, to=1e9)
        request = scene.subject.request(
            scene.path, step, frames=frames, expected_history=b"another!"
        )
        scene.refused("STEP_CONFLICT", request)

    def test_gap_before_range(self, scene: Scene) -> None:
        step = scene.subject.next_step + 1
        frames = changed(scene.subject.frames[step], 0, 0, to=1e9)
        scene.refused("STEP_GAP", scene.subject.request(scene.path, step, frames=frames))

    def test_conflict_before_range(self, scene: Scene) -> None:
        step = scene.subject.next_step - 1
        frames = changed(scene.subject.frames[step], 0, 0, to=1e9)
        scene.refused("STEP_CONFLICT", scene.subject.request(scene.path, step, frames=frames))


MALFORMED = {
    "nothing of a message": b"\xff\xff\xff\xff",
    "an unfinished varint": b"\x20\x80",
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "an id that is not UTF-8": b"\x0a\x02\xc3\x28",
    "an id longer than the message": b"\x0a\x7f" + b"short",
    "an unopened group": b"\x0c",
    "a field number of zero": b"\x00\x00",
    "readings that are cut off": b"\x2a\x28" + bytes(39),
    "readings of 41 bytes": b"\x2a\x29" + bytes(41),
}


@pytest.mark.contract(10)
@pytest.mark.parametrize("kind", MALFORMED)
def test_bytes_that_are_no_message_are_refused(scene: Scene, kind: str) -> None:
    scene.refused("MALFORMED", MALFORMED[kind])


@pytest.mark.contract(10)
def test_a_right_request_with_its_end_cut_off_is_refused(scene: Scene) -> None:
    request = encoded(scene.subject.request(scene.path, scene.subject.next_step))
    scene.refused("MALFORMED", request[:-1])


@pytest.mark.contract(10)
def test_a_right_request_with_bad_text_in_it_is_refused(scene: Scene) -> None:
    request = encoded(scene.subject.request(scene.path, scene.subject.next_step))
    scene.refused("MALFORMED", request.replace(b"subject-", b"subject\xff", 1))


def test_empty_bytes_are_a_message_without_a_session(scene: Scene) -> None:
    is_unary = isinstance(scene.path, UnaryPath)
    scene.refused("SESSION_UNKNOWN" if is_unary else "ARGUMENT_INVALID", b"")


def test_what_grpc_itself_refuses_applies_nothing(scene: Scene) -> None:
    frames = np.ones(1_200_000, np.float32)
    request = scene.subject.request(scene.path, scene.subject.next_step, frames=frames)
    before = scene.subject.now
    try:
        refused_by_grpc(scene.path, encoded(request))
    except Refused as refusal:
        refusal.hold("FRAME_SHAPE")
        pytest.skip("needs a message of 4.8 MB to be too long; the server allows more")
    assert scene.subject.now == before
    with UnaryPath(scene.subject.caller) as path:
        scene.subject.advance(path)
        scene.bystander.advance(path)

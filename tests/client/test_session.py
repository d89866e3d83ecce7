"""A session's outputs are those of the plain loop, and it stands where its caller is."""

from __future__ import annotations

import itertools
import math
import queue
from collections.abc import Generator, Iterator

import numpy as np
import pytest

from tickcell.cli import comparison
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, errors
from tickcell.model import Bundle, LiteRTCell


def test_frame_by_frame_equals_the_loop(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        outputs = np.stack([session.step(frame) for frame in frames])
    assert outputs.tobytes() == expected.tobytes()


def test_chunks_of_any_length_equal_the_loop(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        outputs = np.concatenate([session.steps(frames[:1]), session.steps(frames[1:])])
    assert outputs.tobytes() == expected.tobytes()


@pytest.mark.parametrize("max_chunk", [None, 1, 5, 1000])
def test_a_stream_equals_the_loop(
    sessions: type[Session],
    server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
    max_chunk: int | None,
) -> None:
    with sessions.create(server.address) as session:
        outputs = np.stack(list(session.stream(frames, max_chunk=max_chunk)))
    assert outputs.tobytes() == expected.tobytes()


def test_steps_chunks_and_streams_follow_each_other(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        outputs = [*session.stream(frames[:100]), session.step(frames[100])]
        outputs += [*session.steps(frames[101:200]), *session.stream(frames[200:])]
    assert np.stack(outputs).tobytes() == expected.tobytes()


def test_a_window_of_one_step_streams(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address, window=1) as session:
        outputs = np.stack(list(session.stream(frames)))
    assert outputs.tobytes() == expected.tobytes()


@pytest.mark.parametrize("way", ["step", "steps", "stream"])
def test_series_advance_in_lockstep(
    sessions: type[Session], server: ServerProcess, cell: LiteRTCell, frames: np.ndarray, way: str
) -> None:
    starts = [0, 40, 70]
    series = np.stack([frames[start : start + 200] for start in starts], axis=1)
    with sessions.create(server.address, series_count=3) as session:
        if way == "step":
            outputs = np.stack([session.step(frame) for frame in series])
        elif way == "steps":
            outputs = session.steps(series)
        else:
            outputs = np.stack(list(session.stream(series)))
    for index, start in enumerate(starts):
        alone = comparison.loop(cell, frames[start : start + 200])
        assert np.ascontiguousarray(outputs[:, index]).tobytes() == alone.tobytes()


def test_one_series_may_have_its_axis(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        assert session.step(frames[:1]).tolist() == expected[:1].tolist()
        assert session.steps(frames[1:5, np.newaxis]).shape == (4, 1, 1)


def test_frames_may_have_any_order_of_memory(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    in_columns = np.asfortranarray(frames)
    backwards = np.ascontiguousarray(frames[:, ::-1])[:, ::-1]
    by_two = np.repeat(frames, 2, axis=1)[:, ::2]
    with sessions.create(server.address) as session:
        outputs = [session.step(backwards[0]), session.step(by_two[1])]
        outputs += [*session.steps(in_columns[2:100]), *session.stream(in_columns[100:])]
    assert np.stack(outputs).tobytes() == expected.tobytes()


def test_frames_may_be_lists_and_of_any_number_type(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        assert session.step(frames[0].tolist()) == expected[0]
        assert session.step(frames[1].astype(np.float64)) == expected[1]


def test_a_frame_of_another_width_is_refused_by_the_sensors_names(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        assert len(session.model.sensors) == 10
        with pytest.raises(errors.FrameShapeError, match=r"shape \[9\], expected \[10\].*gyro_z"):
            session.step(frames[0][:9])
        assert session.next_step == 0


def test_a_frame_of_another_width_is_refused_without_a_server(
    sessions: type[Session], mortal_server: ServerProcess, frames: np.ndarray
) -> None:
    session = sessions.create(mortal_server.address, retry_for_s=0)
    mortal_server.kill()
    with pytest.raises(errors.FrameShapeError, match=r"\[10\]; session\.model names the sensors"):
        session.step(frames[0][:9])
    session.detach()


def test_a_chunk_of_another_shape_is_refused(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray
) -> None:
    with (
        sessions.create(server.address, series_count=2) as session,
        pytest.raises(errors.FrameShapeError, match=r"expected \[T, 2, 10\]"),
    ):
        session.steps(frames)


def test_a_refused_step_leaves_the_session_where_it_was(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        session.step(frames[0])
        with pytest.raises(errors.FrameNotFiniteError):
            session.step(np.full(10, math.nan))
        assert session.step(frames[1]) == expected[1]


def test_a_reading_too_large_for_float32_is_not_finite(
    sessions: type[Session], server: ServerProcess
) -> None:
    with (
        sessions.create(server.address) as session,
        pytest.raises(errors.FrameNotFiniteError),
    ):
        session.step(np.full(10, 1e300))


def test_a_refused_frame_in_a_stream_comes_after_the_outputs_before_it(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    bad = [*frames[:50], np.full(10, math.nan), *frames[51:60]]
    got: list[np.ndarray] = []
    with sessions.create(server.address) as session:
        with pytest.raises(errors.FrameNotFiniteError):
            got.extend(session.stream(bad))
        assert session.next_step == 50
        got.extend(session.stream(frames[50:]))
    assert np.stack(got).tobytes() == expected.tobytes()


def test_after_an_error_steps_leaves_what_was_answered(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    bad = frames.copy()
    bad[100] = math.nan
    out = np.zeros((300, 1), np.float32)
    with sessions.create(server.address) as session:
        with pytest.raises(errors.FrameNotFiniteError):
            session.steps(bad, out)
        done = session.next_step
    assert 0 < done <= 100
    assert out[:done].tobytes() == expected[:done].tobytes()


def test_an_array_of_another_shape_cannot_take_the_outputs(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray
) -> None:
    with (
        sessions.create(server.address) as session,
        pytest.raises(errors.UsageError, match=r"expected float32 \[300, 1\]"),
    ):
        session.steps(frames, np.zeros(300, np.float32))


def test_a_stream_draws_at_most_the_window_ahead(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray
) -> None:
    drawn = itertools.count()
    source = (frames[next(drawn)] for _ in range(300))
    with sessions.create(server.address, window=8) as session:
        for step, _ in enumerate(session.stream(source)):
            assert session.in_flight <= 8
            if step == 100:
                break
    # The one that is drawn next is not counted as drawn yet.
    assert next(drawn) <= 101 + 8


def test_who_leaves_a_stream_early_goes_on_with_what_it_drew(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    source = iter(frames)
    with sessions.create(server.address) as session:
        outputs = list(itertools.islice(session.stream(source), 20))
        rest = itertools.chain(session.unanswered, source)
        outputs += session.stream(rest)
    assert np.stack(outputs).tobytes() == expected.tobytes()


def test_an_error_of_the_source_comes_after_its_outputs(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    def source() -> Iterator[np.ndarray]:
        yield from frames[:30]
        raise RuntimeError("the sensor is gone")

    got: list[np.ndarray] = []
    with sessions.create(server.address) as session:
        with pytest.raises(RuntimeError, match="the sensor is gone"):
            got.extend(session.stream(source()))
        assert session.next_step == 30
    assert np.stack(got).tobytes() == expected[:30].tobytes()


def test_an_empty_stream_is_nothing(sessions: type[Session], server: ServerProcess) -> None:
    with sessions.create(server.address) as session:
        assert list(session.stream([])) == []


def test_outputs_do_not_wait_for_the_next_frame(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    """As from a robot's pipe: the next frame comes only after the output."""
    got: list[np.ndarray] = []
    go_on = queue.SimpleQueue[None]()

    def source() -> Iterator[np.ndarray]:
        for frame in frames[:20]:
            yield frame
            go_on.get(timeout=10)

    with sessions.create(server.address) as session:
        for output in session.stream(source()):
            got.append(output)
            go_on.put(None)
    assert np.stack(got).tobytes() == expected[:20].tobytes()


def test_while_a_stream_is_open_steps_go_by_it_alone(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        stream = session.stream(frames)
        assert isinstance(stream, Generator)
        next(stream)
        with pytest.raises(errors.UsageError, match="a stream is open"):
            session.step(frames[1])
        stream.close()


def test_leaving_the_block_deletes_the_session(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        session.step(frames[0])
    with pytest.raises(errors.SessionDeletedError):
        sessions.attach(server.address, session.id)


def test_an_exception_keeps_the_session(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    session = sessions.create(server.address)

    def crash() -> None:
        with session:
            session.step(frames[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crash()
    with sessions.attach(server.address, session.id) as again:
        assert (again.next_step, again.step(frames[1])) == (1, expected[1])


def test_a_detached_session_goes_on_elsewhere(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    session = sessions.create(server.address, labels={"car": "7"})
    session.steps(frames[:10])
    session.detach()
    with sessions.attach(server.address, session.id) as again:
        assert (again.info.labels, again.next_step) == ({"car": "7"}, 10)
        assert again.step(frames[10]) == expected[10]


def test_a_closed_session_says_so(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray
) -> None:
    session = sessions.create(server.address)
    session.close()
    session.close()
    with pytest.raises(errors.UsageError, match="is closed"):
        session.step(frames[0])


def test_closing_a_session_that_has_ended_is_fine(
    sessions: type[Session], server: ServerProcess
) -> None:
    with sessions.create(server.address, idle_ttl_s=0.001):
        pass


def test_closing_does_not_end_another_life(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    session = sessions.create(server.address)
    other = sessions.attach(server.address, session.id)
    other.reset()
    session.close()
    assert other.step(frames[0]) == expected[0]
    other.close()


def test_a_live_session_s_id_is_taken(sessions: type[Session], server: ServerProcess) -> None:
    with (
        sessions.create(server.address) as session,
        pytest.raises(errors.SessionExistsError),
    ):
        sessions.create(server.address, session.id)


def test_reset_starts_again(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        session.steps(frames[:10])
        before = session.info.generation
        session.reset()
        assert (session.next_step, session.step(frames[0])) == (0, expected[0])
        assert session.info.generation != before


def test_touch_renews(sessions: type[Session], server: ServerProcess) -> None:
    with sessions.create(server.address, idle_ttl_s=1000.0) as session:
        before = session.info
        session.touch()
        assert session.info.renew_time > before.renew_time
        assert session.info.idle_ttl_s == 1000.0


def test_a_session_may_live_for_ever(sessions: type[Session], server: ServerProcess) -> None:
    with sessions.create(server.address, idle_ttl_s=math.inf) as session:
        assert (session.info.idle_ttl_s, session.info.expire_time) == (None, None)


def test_rewound_steps_give_the_outputs_they_had(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        session.steps(frames[:100])
        session.rewind(80)
        assert session.steps(frames[80:120]).tobytes() == expected[80:120].tobytes()


def test_rewound_steps_with_other_frames_are_a_conflict(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        session.steps(frames[:100])
        session.rewind(80)
        with pytest.raises(errors.StepConflictError):
            session.step(frames[81])


@pytest.mark.parametrize("step", [-1, 101])
def test_a_session_cannot_be_rewound_to_where_it_never_was(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, step: int
) -> None:
    with sessions.create(server.address) as session:
        session.steps(frames[:100])
        with pytest.raises(errors.UsageError, match="expected an integer from 0 to 100"):
            session.rewind(step)


def test_of_two_writers_with_different_frames_one_wins_and_the_other_is_told(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        other = sessions.attach(server.address, session.id)
        session.step(frames[0])
        with pytest.raises(errors.StepConflictError):
            other.step(frames[1])
        assert (session.next_step, other.next_step) == (1, 0)
        other.detach()


def test_the_model_names_its_sensors(
    sessions: type[Session], server: ServerProcess, bundle: Bundle
) -> None:
    with sessions.create(server.address) as session:
        assert session.model.sensors == bundle.interface.sensors
        assert session.model.fingerprint == bundle.fingerprint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deadline_s", 0.0),
        ("deadline_s", -1.0),
        ("deadline_s", math.nan),
        ("deadline_s", "5"),
        ("deadline_s", None),
        ("retry_for_s", -1.0),
        ("retry_for_s", math.nan),
        ("idle_ttl_s", 0.0),
        ("idle_ttl_s", -1.0),
        ("idle_ttl_s", math.nan),
        ("window", -1),
        ("window", 2**40),
        ("window", 1.5),
        ("series_count", 0),
        ("series_count", 2**31),
        ("series_count", "2"),
        ("session", 7),
        ("session", "\ud800"),
        ("model", None),
        ("model_version", 1),
        ("labels", {"a": 1}),
        ("labels", {1: "a"}),
        ("labels", ["a"]),
        ("on_dropout", "drop"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused_by_its_name(
    sessions: type[Session], server: ServerProcess, name: str, value: object
) -> None:
    with pytest.raises(errors.UsageError, match=rf"^{name}(\[|:).*got .*, expected"):
        sessions.create(server.address, **{name: value})  # type: ignore[arg-type] # on purpose


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_chunk", 0), ("max_chunk", -1), ("max_chunk", 1.5), ("backlog", 0), ("backlog", "9")],
)
def test_a_stream_s_argument_that_cannot_be_meant_is_refused_by_its_name(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, name: str, value: object
) -> None:
    with (
        sessions.create(server.address) as session,
        pytest.raises(errors.UsageError, match=rf"^{name}: got .*, expected an integer"),
    ):
        next(session.stream(frames, **{name: value}))  # type: ignore[arg-type] # on purpose


@pytest.mark.parametrize("name", ["deadline_s", "retry_for_s"])
def test_a_time_may_be_infinite(
    sessions: type[Session],
    server: ServerProcess,
    frames: np.ndarray,
    expected: np.ndarray,
    name: str,
) -> None:
    with sessions.create(server.address, **{name: math.inf}) as session:  # type: ignore[arg-type] # a float
        outputs = [session.step(frames[0]), *session.stream(frames[1:20])]
    assert np.stack(outputs).tobytes() == expected[:20].tobytes()


def test_a_session_may_be_touched_amid_its_stream_from_the_source_s_thread(
    sessions: type[Session], server: ServerProcess, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(server.address) as session:
        before = session.info

        def sensor() -> Iterator[np.ndarray]:
            yield frames[0]
            session.touch()
            yield frames[1]

        outputs = np.stack(list(session.stream(sensor())))
        assert session.info.renew_time > before.renew_time
    assert outputs.tobytes() == expected[:2].tobytes()


def test_a_block_that_cannot_delete_its_session_gives_its_connection_back(
    sessions: type[Session], mortal_server: ServerProcess, frames: np.ndarray
) -> None:
    def leave() -> Session:
        with sessions.create(mortal_server.address, retry_for_s=0) as session:
            mortal_server.kill()
        return session

    with pytest.raises(errors.UnavailableError):
        leave()

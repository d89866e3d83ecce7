"""Whatever a network does to a call, each step is applied once and answered with its output."""

from __future__ import annotations

import random

import grpc
import numpy as np
import pytest

import seeds
from doubles.faulty_proxy import Fault, FaultyProxy, Kind
from tickcell.cli import comparison
from tickcell.client import PacedSession, Session, errors, unary_calls
from tickcell.client.clock import Clock, paced
from tickcell.client.link import Link
from tickcell.model import LiteRTCell
from tickcell.v1 import session_service_pb2

LOST = [
    Fault("lose request"),
    Fault("lose reply"),
    Fault("lose reply", code=grpc.StatusCode.UNKNOWN),
    Fault("lose reply", code=grpc.StatusCode.INTERNAL),
    Fault("lose reply", code=grpc.StatusCode.CANCELLED),
    Fault("lose reply", code=grpc.StatusCode.DEADLINE_EXCEEDED),
    Fault("stall"),
]


def name(fault: Fault) -> str:
    return f"{fault.kind}-{fault.code.name}"


def step_of(request: bytes) -> int:
    return session_service_pb2.StepSessionRequest.FromString(request).first_step


@pytest.mark.parametrize("fault", LOST, ids=name)
def test_a_step_whose_outcome_is_unknown_is_sent_again(
    sessions: type[Session],
    proxy: FaultyProxy,
    frames: np.ndarray,
    expected: np.ndarray,
    fault: Fault,
) -> None:
    proxy.faults["StepSession"].append(fault)
    deadline_s = 1.0 if fault.kind == "stall" else 30.0
    with sessions.create(proxy.address, deadline_s=deadline_s) as session:
        outputs = [session.step(frame) for frame in frames[:5]]
    assert np.stack(outputs).tobytes() == expected[:5].tobytes()
    first, again, *_ = proxy.requests["StepSession"]
    assert first == again


@pytest.mark.parametrize("fault", LOST, ids=name)
def test_a_step_by_a_stream_whose_outcome_is_unknown_is_sent_again_by_a_call(
    sessions: type[Session],
    proxy: FaultyProxy,
    frames: np.ndarray,
    expected: np.ndarray,
    fault: Fault,
) -> None:
    proxy.faults["StreamSteps"].append(Fault(fault.kind, after=2, code=fault.code))
    deadline_s = 1.0 if fault.kind == "stall" else 30.0
    with sessions.create(proxy.address, deadline_s=deadline_s) as session:
        outputs = [session.step(frame) for frame in frames[:6]]
    assert np.stack(outputs).tobytes() == expected[:6].tobytes()
    by_call = [step_of(request) for request in proxy.requests["StepSession"]]
    # Nothing goes by a stream that owes a reply.
    lost = 1 if fault.kind == "lose request" else 3
    assert by_call == [0, lost]
    assert proxy.calls["StreamSteps"] == 2


def test_a_request_says_generation_and_step_each_time(
    sessions: type[Session], proxy: FaultyProxy, frames: np.ndarray
) -> None:
    with sessions.create(proxy.address) as session:
        session.step(frames[0])
        session.step(frames[1])
    sent = [
        session_service_pb2.StepSessionRequest.FromString(request)
        for method in ("StepSession", "StreamSteps")
        for request in proxy.requests[method]
    ]
    assert [request.first_step for request in sent] == [0, 1]
    assert {request.generation for request in sent} == {session.info.generation}


@pytest.mark.parametrize("fault", LOST, ids=name)
def test_a_broken_stream_goes_on_from_the_first_unanswered_step(
    sessions: type[Session],
    proxy: FaultyProxy,
    frames: np.ndarray,
    expected: np.ndarray,
    fault: Fault,
) -> None:
    for after in (0, 3, 20):
        proxy.faults["StreamSteps"].append(Fault(fault.kind, after, fault.code))
    deadline_s = 1.0 if fault.kind == "stall" else 30.0
    with sessions.create(proxy.address, deadline_s=deadline_s) as session:
        outputs = np.stack(list(session.stream(frames, max_chunk=2)))
    assert outputs.tobytes() == expected.tobytes()
    assert proxy.calls["StreamSteps"] == 4


@pytest.fixture(scope="module")
def wide(cell: LiteRTCell, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames of many series and their outputs, `[T, B, ...]`, of which chunks go ahead."""
    series = np.stack([np.roll(frames, -at, axis=0)[:40] for at in range(128)], axis=1)
    loops = [comparison.loop(cell, series[:, each]) for each in range(series.shape[1])]
    return series, np.stack(loops, axis=1)


@pytest.mark.parametrize("fault", LOST, ids=name)
def test_steps_with_two_chunks_on_their_way_go_on_from_the_first_unanswered(
    sessions: type[Session],
    proxy: FaultyProxy,
    wide: tuple[np.ndarray, np.ndarray],
    fault: Fault,
) -> None:
    series, expected = wide
    for after in (0, 3, 1):
        proxy.faults["StreamSteps"].append(Fault(fault.kind, after, fault.code))
    deadline_s = 1.0 if fault.kind == "stall" else 30.0
    with sessions.create(
        proxy.address, window=4, series_count=series.shape[1], deadline_s=deadline_s
    ) as session:
        assert session.steps(series).tobytes() == expected.tobytes()
        assert session.step(series[0]).shape == expected[0].shape


def test_of_what_is_sent_ahead_no_more_than_a_window_is_on_its_way(
    sessions: type[Session], proxy: FaultyProxy, wide: tuple[np.ndarray, np.ndarray]
) -> None:
    series, expected = wide
    proxy.faults["StreamSteps"].append(Fault("stall", after=2))
    with sessions.create(
        proxy.address, window=4, series_count=series.shape[1], deadline_s=0.5
    ) as session:
        assert session.steps(series).tobytes() == expected.tobytes()
    sent = [
        session_service_pb2.StreamStepsRequest.FromString(request)
        for request in proxy.requests["StreamSteps"]
    ]
    spans = [(request.first_step, request.step_count) for request in sent]
    # The first goes by a call; of the stream, the third has no reply, and goes by a call then.
    assert spans[:4] == [(2, 2), (4, 2), (6, 2), (8, 2)]
    assert spans[4:6] == [(8, 2), (10, 2)]


@pytest.mark.parametrize("wrong", [5, 6, 7])
def test_a_frame_that_is_refused_with_two_chunks_on_their_way_changes_nothing(
    sessions: type[Session],
    proxy: FaultyProxy,
    wide: tuple[np.ndarray, np.ndarray],
    wrong: int,
) -> None:
    series, expected = wide
    broken = series.copy()
    broken[wrong, 3, 2] = np.nan
    out = np.zeros_like(expected)
    with sessions.create(proxy.address, window=4, series_count=series.shape[1]) as session:
        with pytest.raises(errors.FrameNotFiniteError, match=f"step {wrong}, series 3"):
            session.steps(broken, out)
        at = session.next_step
        assert at == wrong - wrong % 2
        out[at:] = session.steps(series[at:])
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("seed", seeds.of(5, 2))
def test_a_network_of_nothing_but_faults_loses_nothing(
    sessions: type[Session], proxy: FaultyProxy, frames: np.ndarray, expected: np.ndarray, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(12):
        kinds: list[Kind] = ["lose request", "lose reply", "lose reply"]
        kind = chance.choice(kinds)
        proxy.faults["StreamSteps"].append(Fault(kind, chance.randint(0, 12)))
    with sessions.create(proxy.address, window=chance.choice([1, 4, 32])) as session:
        outputs = np.stack(list(session.stream(frames)))
    assert outputs.tobytes() == expected.tobytes()


def test_a_session_whose_creation_was_not_answered_is_not_created_twice(
    sessions: type[Session], proxy: FaultyProxy
) -> None:
    proxy.faults["CreateSession"].append(Fault("lose reply"))
    with sessions.create(proxy.address, labels={"test": "twice"}):
        with Link(proxy.address) as link:
            found = [each for each in link.do(unary_calls.list_sessions) if each.labels.get("test")]
        assert len(found) == 1


def test_a_reset_that_was_not_answered_is_one_reset(
    sessions: type[Session], proxy: FaultyProxy, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(proxy.address) as session:
        session.step(frames[0])
        proxy.faults["ResetSession"].append(Fault("lose reply"))
        session.reset()
        assert session.step(frames[0]) == expected[0]
    first, second = proxy.requests["ResetSession"]
    assert first == second


def test_a_deletion_that_was_not_answered_is_fine(
    sessions: type[Session], proxy: FaultyProxy
) -> None:
    with sessions.create(proxy.address):
        proxy.faults["DeleteSession"].append(Fault("lose reply"))


def test_a_conflict_is_never_healed(
    sessions: type[Session], proxy: FaultyProxy, frames: np.ndarray
) -> None:
    with sessions.create(proxy.address) as session:
        other = sessions.attach(proxy.address, session.id)
        session.step(frames[0])
        for _ in range(2):
            with pytest.raises(errors.StepConflictError):
                other.step(frames[1])
        assert other.next_step == 0
        assert len(proxy.requests["StepSession"]) + len(proxy.requests["StreamSteps"]) == 3
        other.detach()


def test_a_step_that_is_refused_is_not_sent_again(
    sessions: type[Session], proxy: FaultyProxy
) -> None:
    with (
        sessions.create(proxy.address) as session,
        pytest.raises(errors.FrameNotFiniteError),
    ):
        session.step(np.full(10, np.inf))
    assert len(proxy.requests["StepSession"]) == 1


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
def test_what_grpc_refuses_is_told_at_once(
    sessions: type[Session], proxy: FaultyProxy, frames: np.ndarray, code: grpc.StatusCode
) -> None:
    with sessions.create(proxy.address) as session:
        proxy.faults["StepSession"].append(Fault("lose request", code=code))
        with pytest.raises(errors.CallError) as refused:
            session.step(frames[0])
        assert refused.value.code == code.name
        assert len(proxy.requests["StepSession"]) == 1


def test_patience_ends_and_the_same_frame_is_still_due(
    sessions: type[Session], proxy: FaultyProxy, frames: np.ndarray, expected: np.ndarray
) -> None:
    with sessions.create(proxy.address, retry_for_s=0.1) as session:
        session.step(frames[0])
        for method in ("StreamSteps", "StepSession"):
            proxy.faults[method].extend([Fault("lose reply")] * 20)
        with pytest.raises(errors.UnavailableError, match="sending it again is safe"):
            session.step(frames[1])
        assert session.next_step == 1
        proxy.faults.clear()
        assert session.step(frames[1]) == expected[1]


def test_a_stream_whose_patience_ends_can_be_gone_on_with(
    sessions: type[Session], proxy: FaultyProxy, frames: np.ndarray, expected: np.ndarray
) -> None:
    got: list[np.ndarray] = []
    source = iter(frames)
    with sessions.create(proxy.address, retry_for_s=0.1) as session:
        proxy.faults["StreamSteps"].append(Fault("lose reply", 10))
        proxy.faults["StreamSteps"].extend([Fault("lose reply")] * 20)
        with pytest.raises(errors.UnavailableError):
            got.extend(session.stream(source, max_chunk=1))
        # What the broken stream had brought and nobody read may be lost with it.
        assert session.next_step == len(got) <= 10
        proxy.faults["StreamSteps"].clear()
        got.extend(session.stream([*session.unanswered, *source]))
    assert np.stack(got).tobytes() == expected.tobytes()


@pytest.mark.parametrize("reason", ["STORE_FULL", "STREAMS_FULL", "DRAINING", "INTERNAL"])
def test_a_refusal_that_may_pass_is_sent_again(
    sessions: type[Session],
    proxy: FaultyProxy,
    frames: np.ndarray,
    expected: np.ndarray,
    reason: str,
) -> None:
    proxy.faults["StepSession"].extend([Fault("refuse", reason=reason)] * 3)
    proxy.faults["StreamSteps"].extend([Fault("refuse", after, reason=reason) for after in (0, 2)])
    with sessions.create(proxy.address) as session:
        outputs = [session.step(frames[0]), *session.stream(frames[1:], max_chunk=4)]
    assert np.stack(outputs).tobytes() == expected.tobytes()
    assert (proxy.calls["StepSession"], proxy.calls["StreamSteps"]) == (4, 3)


def test_a_refusal_that_does_not_pass_is_told_by_its_reason(
    sessions: type[Session], proxy: FaultyProxy, frames: np.ndarray
) -> None:
    proxy.faults["StepSession"].extend([Fault("refuse", reason="STORE_FULL")] * 20)
    with (
        sessions.create(proxy.address, retry_for_s=0.1) as session,
        pytest.raises(errors.StoreFullError, match="refused on purpose"),
    ):
        session.step(frames[0])


def test_a_paced_loop_gives_up_a_connection_that_stalls(
    proxy: FaultyProxy, frames: np.ndarray, expected: np.ndarray
) -> None:
    proxy.faults["StreamSteps"].append(Fault("stall", 5))
    outputs = []
    with Session.create(proxy.address, deadline_s=1.0) as session:
        with PacedSession(session, rate_hz=100, budget_s=0.05) as loop:
            for due, frame in paced(((i / 100, frame) for i, frame in enumerate(frames)), Clock()):
                outputs.append(loop.tick(frame, due))
        assert session.next_step == len(frames)
    assert proxy.calls["StreamSteps"] == 2
    assert loop.late_output_count == loop.late_count
    in_time = [step for step, output in enumerate(outputs) if output is not None]
    assert [np.asarray(outputs[step]).tolist() for step in in_time] == expected[in_time].tolist()

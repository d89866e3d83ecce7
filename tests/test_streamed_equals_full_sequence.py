"""The one promise: streamed outputs are those of the plain loop, whatever happens between ticks.

    state = cell.initial_state()
    for frame in recording:
        output, state = cell.step(frame, state)

Every test streams through real servers with their stores on disk, and compares
with this loop, run in this process, bit for bit; and with what Keras made of the
whole sequence at once, within the tolerance of float32 arithmetic in another
order. How often and how long servers are killed is in test_crash_proof.py.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

import seeds
from tickcell.cli import server_process
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session
from tickcell.model import Bundle

# Two implementations of the same float32 arithmetic: their last bits differ, and the
# recurrence forgets. The export measures this for each bundle and states it on the card.
TOLERANCE = 1e-5

STEPS = 600


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def recording(bundle: Bundle) -> np.ndarray:
    """The first frames of the shipped sample, `[T, F]`."""
    return bundle.golden.frames[:STEPS]


@pytest.fixture(scope="module")
def expected(bundle: Bundle, recording: np.ndarray) -> np.ndarray:
    """What the loop gives, `[T, O]`."""
    return loop(bundle, recording)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with server_process.temporary() as process:
        yield process


def loop(bundle: Bundle, frames: np.ndarray) -> np.ndarray:
    cell = bundle.cell()
    outputs: list[np.ndarray] = []
    state = cell.initial_state()
    for frame in frames:
        output, state = cell.step(frame, state)
        outputs.append(output)
    return np.stack(outputs)


def assert_same_bits(streamed: ArrayLike, expected: np.ndarray) -> None:
    streamed, expected = np.asarray(streamed), np.asarray(expected)
    assert streamed.shape == expected.shape
    if streamed.tobytes() == expected.tobytes():
        return
    delta = np.abs(streamed.astype(np.float64) - expected).reshape(len(expected), -1).max(axis=1)
    differ = np.flatnonzero((streamed != expected).reshape(len(expected), -1).any(axis=1))
    pytest.fail(
        f"{len(differ)} of {len(expected)} steps differ, the first at step {differ[0]}; "
        f"max |delta| {delta.max():.3g} at step {delta.argmax()}"
    )


def test_tick_by_tick(server: ServerProcess, recording: np.ndarray, expected: np.ndarray) -> None:
    with Session.create(server.address) as session:
        assert_same_bits([session.step(frame) for frame in recording], expected)


def test_over_a_stream(server: ServerProcess, recording: np.ndarray, expected: np.ndarray) -> None:
    with Session.create(server.address) as session:
        assert_same_bits(list(session.stream(recording)), expected)


@pytest.mark.parametrize("seed", range(3))
def test_in_chunks_of_any_length(
    server: ServerProcess, recording: np.ndarray, expected: np.ndarray, seed: int
) -> None:
    chance = random.Random(seed)
    outputs: list[np.ndarray] = []
    with Session.create(server.address) as session:
        while session.next_step < len(recording):
            step = session.next_step
            outputs.extend(session.steps(recording[step : step + chance.randint(1, 70)]))
    assert_same_bits(outputs, expected)


def test_in_chunks_of_every_length(server: ServerProcess, bundle: Bundle) -> None:
    """Twice: while the server readies the cell for chunks, and once it is ready."""
    lengths = range(1, 71)
    frames = bundle.golden.frames[: sum(lengths)]
    expected = loop(bundle, frames)
    for _ in range(2):
        with Session.create(server.address, window=max(lengths)) as session:
            outputs = [
                session.steps(frames[session.next_step : session.next_step + length])
                for length in lengths
            ]
        assert_same_bits(np.concatenate(outputs), expected)


def test_several_series_in_one_session(
    server: ServerProcess, bundle: Bundle, recording: np.ndarray
) -> None:
    offsets = (0, 7, 100, 333)
    length = STEPS - max(offsets)
    series = np.stack([recording[start : start + length] for start in offsets], axis=1)
    with Session.create(server.address, series_count=len(offsets)) as session:
        outputs = session.steps(series)
    for index, start in enumerate(offsets):
        alone = loop(bundle, recording[start : start + length])
        assert_same_bits(outputs[:, index], alone)


def test_among_other_sessions_in_the_same_turns(
    server: ServerProcess, recording: np.ndarray, expected: np.ndarray
) -> None:
    with (
        Session.create(server.address) as first,
        Session.create(server.address) as second,
        Session.create(server.address, series_count=5) as third,
    ):
        streams = (
            first.stream(recording),
            second.stream(recording[::-1]),
            third.stream(np.repeat(recording[:, np.newaxis], 5, axis=1)),
        )
        outputs = list(zip(*streams, strict=True))
    assert_same_bits([output for output, _, _ in outputs], expected)
    assert_same_bits([five[4] for _, _, five in outputs], expected)


def test_over_a_new_connection_for_each_stretch(
    server: ServerProcess, recording: np.ndarray, expected: np.ndarray
) -> None:
    session = Session.create(server.address)
    outputs: list[np.ndarray] = []
    for start in range(0, STEPS, 60):
        outputs.extend(session.step(frame) for frame in recording[start : start + 60])
        session.detach()
        session = Session.attach(server.address, session.id)
    session.close()
    assert_same_bits(outputs, expected)


def test_with_every_step_sent_twice(
    server: ServerProcess, recording: np.ndarray, expected: np.ndarray
) -> None:
    outputs: list[np.ndarray] = []
    with Session.create(server.address) as session:
        for step, frame in enumerate(recording):
            first = session.step(frame)
            session.rewind(step)
            assert session.step(frame).tobytes() == first.tobytes()
            outputs.append(first)
        assert Session.attach(server.address, session.id).next_step == STEPS
    assert_same_bits(outputs, expected)


def test_by_two_servers_on_one_store_in_turn(
    server: ServerProcess, recording: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    outputs: list[np.ndarray] = []
    with server_process.ServerProcess(
        tmp_path, "--store", str(server.store), listen="localhost:0"
    ) as other:
        session = Session.create(server.address)
        for address, chunk in zip(
            itertools.cycle([other.address, server.address]), np.split(recording, 60), strict=False
        ):
            session.detach()
            session = Session.attach(address, session.id)
            outputs.extend(session.steps(chunk))
        session.close()
    assert_same_bits(outputs, expected)


@pytest.mark.parametrize("seed", seeds.of(3))
def test_through_kills_of_the_server_at_random_moments(
    recording: np.ndarray, expected: np.ndarray, seed: int
) -> None:
    chance = random.Random(seed)
    kills = sorted(chance.sample(range(STEPS), 3))
    outputs: list[np.ndarray] = []
    with (
        server_process.temporary() as server,
        Session.create(server.address) as session,
    ):
        for output in session.stream(recording, max_chunk=chance.choice([1, 8])):
            outputs.append(output)
            if kills and len(outputs) > kills[0]:
                kills.pop(0)
                server.kill()
                server.restart()
    assert_same_bits(outputs, expected)


def test_against_keras_over_the_whole_sequence(server: ServerProcess, bundle: Bundle) -> None:
    golden = bundle.golden
    with Session.create(server.address) as session:
        streamed = session.steps(golden.frames)
    delta = np.abs(streamed - golden.outputs)
    print(f"max |delta| {delta.max():.2g} at step {delta.argmax()} of {len(delta)}")
    assert delta.max() <= TOLERANCE, f"max |delta| {delta.max():.3g} at step {delta.argmax()}"


@pytest.mark.parametrize("trip", ["trip17", "trip20"])
def test_a_real_recording_at_the_bundle_s_rate(
    server: ServerProcess, bundle: Bundle, recordings: Path, trip: str
) -> None:
    from tickcell.model import recording as recording_module

    frames = recording_module.read(
        str(recordings / f"{trip}.csv"), bundle.interface.sensors
    ).frames[:3000]
    with Session.create(server.address) as session:
        assert_same_bits(list(session.stream(frames)), loop(bundle, frames))


@pytest.mark.parametrize("fault", ["dropped", "doubled", "swapped", "flipped"])
def test_a_fault_on_purpose_would_be_noticed(
    bundle: Bundle, recording: np.ndarray, expected: np.ndarray, fault: str
) -> None:
    """The tests' own test: each thing that must never happen does change what is compared."""
    frames, outputs = recording, expected
    if fault == "dropped":
        outputs = loop(bundle, np.delete(frames, 300, axis=0))
        outputs = np.insert(outputs, 300, outputs[299], axis=0)
    elif fault == "doubled":
        outputs = loop(bundle, np.insert(frames, 300, frames[300], axis=0))[:STEPS]
    elif fault == "swapped":
        other = loop(bundle, frames[::-1])
        outputs = np.concatenate((expected[:300], other[300:301], expected[301:]))
    else:
        outputs = expected.copy()
        outputs.view(np.uint32)[300] ^= 1
    with pytest.raises(pytest.fail.Exception, match=r"differ, the first at step 30[01]"):
        assert_same_bits(outputs, expected)

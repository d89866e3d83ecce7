"""Several steps of one series in a call: to the bits of one after the other, or not at all."""

from __future__ import annotations

import dataclasses
import logging
from concurrent import futures

import numpy as np
import pytest

from doubles import bundle_variant
from tickcell.cli import comparison
from tickcell.model import probe, steps_graph, stretches
from tickcell.model.bundle import Bundle, cell_of
from tickcell.model.cell import CellError, FrameShapeError, LiteRTCell
from tickcell.model.interface import Interface, Sensor, TensorSpec
from tickcell.model.kernel import StepsKernel
from tickcell.model.unrolling import Unrolling, UnrollingError

STEPS = 200


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def cell(bundle: Bundle) -> LiteRTCell:
    """The cell once it is prepared."""
    cell = bundle.cell()
    cell.prepare()
    return cell


@pytest.fixture(scope="module")
def frames(bundle: Bundle) -> np.ndarray:
    return bundle.golden.frames[:STEPS]


@pytest.fixture(scope="module")
def expected(bundle: Bundle, frames: np.ndarray) -> np.ndarray:
    """What the plain loop makes of the frames, by a cell that has one step in a call."""
    return comparison.loop(cell_of(bundle.step_graph, bundle.interface), frames)


def in_chunks(cell: LiteRTCell, frames: np.ndarray, length: int) -> np.ndarray:
    state = cell.initial_state()
    outputs = []
    for start in range(0, len(frames), length):
        chunk, state = cell.steps(frames[start : start + length], state)
        outputs.append(chunk)
    return np.concatenate(outputs)


def test_the_shipped_cell_takes_several_steps_in_a_call(cell: LiteRTCell) -> None:
    assert cell.stretch_step_count > 1


def test_the_shipped_graph_of_several_steps_is_made_of_that_of_one(
    bundle: Bundle, cell: LiteRTCell
) -> None:
    unrolling = Unrolling(bundle.step_graph, bundle.interface)
    assert bundle.steps_graph == unrolling.unrolled(cell.stretch_step_count)


@pytest.mark.parametrize("length", [*range(1, 36), STEPS])
def test_chunks_of_every_length_have_the_bits_of_the_plain_loop(
    cell: LiteRTCell, frames: np.ndarray, expected: np.ndarray, length: int
) -> None:
    assert in_chunks(cell, frames, length).tobytes() == expected.tobytes()


@pytest.mark.parametrize("step_count", [2, 3, 4, 8, 16, 32, 61])
def test_graphs_of_every_length_have_the_bits_of_the_plain_loop(
    bundle: Bundle, frames: np.ndarray, expected: np.ndarray, step_count: int
) -> None:
    graph = Unrolling(bundle.step_graph, bundle.interface).unrolled(step_count)
    kernel = StepsKernel(graph, bundle.interface)
    row_size = bundle.interface.output_count + bundle.interface.state_size
    state, rows = bundle.interface.initial_state.tobytes(), b""
    for start in range(0, len(frames), step_count):
        rows += kernel.run(frames[start : start + step_count].tobytes(), state)
        state = rows[-len(state) :]
    outputs = np.frombuffer(rows, "<f4").reshape(STEPS, row_size)[:, : expected.shape[1]]
    assert outputs.tobytes() == expected.tobytes()


def test_each_row_of_a_stretch_is_that_of_its_step(cell: LiteRTCell, frames: np.ndarray) -> None:
    state = cell.initial_state().tobytes()
    rows = b""
    for frame in frames[:50]:
        rows += cell.step_rows(frame.tobytes() + state)
        state = rows[-len(state) :]
    assert cell.stretch_rows(frames[:50].tobytes(), cell.initial_state().tobytes()) == rows


def test_what_is_not_finite_at_a_step_shows_in_its_row(
    cell: LiteRTCell, frames: np.ndarray
) -> None:
    upset = frames[:20].copy()
    upset[11, 3] = np.nan
    encoded = cell.stretch_rows(upset.tobytes(), cell.initial_state().tobytes())
    rows = np.frombuffer(encoded, "<f4").reshape(20, -1)
    assert np.isfinite(rows).all(axis=1).tolist() == [step < 11 for step in range(20)]


def test_a_cell_is_quick_to_load_and_prepared_when_that_is_first_wanted(
    bundle: Bundle, frames: np.ndarray, expected: np.ndarray
) -> None:
    cell = bundle.cell()
    assert not cell.is_prepared
    assert cell.stretch_step_count == 1
    # One step at a time until then, as a server does meanwhile.
    encoded = cell.stretch_rows(frames.tobytes(), cell.initial_state().tobytes())
    rows = np.frombuffer(encoded, "<f4").reshape(STEPS, -1)
    assert rows[:, : expected.shape[1]].tobytes() == expected.tobytes()
    assert not cell.is_prepared
    assert in_chunks(cell, frames, 50).tobytes() == expected.tobytes()
    assert cell.is_prepared


def test_series_in_lockstep_have_the_bits_of_each_alone(
    cell: LiteRTCell, frames: np.ndarray
) -> None:
    series = np.stack([frames[start : start + 60] for start in (0, 7, 100)], axis=1)
    outputs, state = cell.steps(series, cell.initial_state(3))
    assert outputs.shape == (60, 3, 1)
    for at, start in enumerate((0, 7, 100)):
        alone, last = cell.steps(frames[start : start + 60], cell.initial_state())
        assert outputs[:, at].tobytes() == alone.tobytes()
        assert state[at].tobytes() == last.tobytes()
        again, _ = cell.steps(series[:, at : at + 1], cell.initial_state())
        assert again.shape == (60, 1, 1)
        assert again.tobytes() == alone.tobytes()


def test_threads_that_prepare_and_step_one_cell_do_not_disturb_each_other(
    bundle: Bundle, frames: np.ndarray, expected: np.ndarray
) -> None:
    cell = bundle.cell()
    with futures.ThreadPoolExecutor(8) as pool:
        for outputs in pool.map(lambda length: in_chunks(cell, frames, length), range(9, 41)):
            assert outputs.tobytes() == expected.tobytes()


def test_neither_digest_nor_fingerprint_depends_on_the_graph_of_several_steps(
    bundle: Bundle,
) -> None:
    bare = dataclasses.replace(bundle, steps_graph=None)
    assert bare.fingerprint == bundle.fingerprint
    assert bare.cell().numerics_digest == bundle.cell().numerics_digest
    assert bare.cell().is_prepared


def test_a_graph_with_other_bits_is_not_used(
    bundle: Bundle, frames: np.ndarray, expected: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    # In the last bits alone, of some weights.
    other = bundle_variant.variant(bundle, "2", factor=1 + 2**-22)
    graph = Unrolling(other.step_graph, bundle.interface).unrolled(8)
    cell = dataclasses.replace(bundle, steps_graph=graph).cell()
    assert in_chunks(cell, frames, 50).tobytes() == expected.tobytes()
    assert cell.stretch_step_count == 1
    assert caplog.messages == [
        "each step of a chunk is a separate call: 8 in one have different bits here"
    ]


@pytest.mark.parametrize("graph", ["no graph", "of one step", "of another width"])
def test_a_graph_that_is_none_of_several_steps_is_not_used(
    bundle: Bundle,
    frames: np.ndarray,
    expected: np.ndarray,
    graph: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoded = {"no graph": b"no graph at all", "of one step": bundle.step_graph}.get(graph)
    if encoded is None:
        encoded = Unrolling(bundle.step_graph, bundle.interface).unrolled(8)
        interface = dataclasses.replace(bundle.interface, sensors=bundle.interface.sensors[:-1])
        with pytest.raises(CellError, match=r"takes 152 numbers, expected T x 9 \+ 72"):
            StepsKernel(encoded, interface)
        return
    cell = dataclasses.replace(bundle, steps_graph=encoded).cell()
    assert in_chunks(cell, frames, 50).tobytes() == expected.tobytes()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith("each step of a chunk is a separate call: ")


def test_a_graph_that_is_slower_here_is_not_used(
    bundle: Bundle,
    frames: np.ndarray,
    expected: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stretches, "step_s", lambda *_: 1e-9)
    cell = bundle.cell()
    assert in_chunks(cell, frames, 50).tobytes() == expected.tobytes()
    assert cell.is_prepared
    assert cell.stretch_step_count == 1


@pytest.mark.parametrize("shape", [(0, 10), (5, 9), (5, 2, 10), (2, 5, 11)])
def test_frames_of_another_shape_are_refused(cell: LiteRTCell, shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameShapeError):
        cell.steps(np.zeros(shape, np.float32), cell.initial_state())


@pytest.mark.parametrize(("frames_size", "state_size"), [(0, 288), (41, 288), (40, 284)])
def test_bytes_that_are_no_frames_or_no_state_are_refused(
    cell: LiteRTCell, frames_size: int, state_size: int
) -> None:
    with pytest.raises(FrameShapeError, match="expected frames of 40 and a state of 288"):
        cell.stretch_rows(bytes(frames_size), bytes(state_size))


def chosen(bundle: Bundle) -> steps_graph.Chosen:
    return steps_graph.choose(bundle.step_graph, bundle.interface, bundle.fingerprint)


def test_the_graph_that_is_chosen_gains_and_says_how_much(bundle: Bundle) -> None:
    graph, summary = chosen(bundle)
    assert graph is not None
    count, gain = int(summary.split()[0]), float(summary.split()[-4])
    assert graph == Unrolling(bundle.step_graph, bundle.interface).unrolled(count)
    assert gain >= 1.2


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("_LONG_STEP_S", 0.0, "far more than a call costs"),
        ("_MOST_WEIGHTS", 1000, "the graph is too large to be repeated"),
        ("_MOST_OPERATORS", 10, "the graph is too large to be repeated"),
        ("_LEAST_GAIN", 1000.0, "several are hardly faster"),
    ],
)
def test_what_does_not_gain_or_is_large_gets_no_graph_and_the_card_says_why(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, reason: str
) -> None:
    monkeypatch.setattr(steps_graph, limit, value)
    graph, summary = chosen(bundle)
    assert graph is None
    assert summary.startswith("one step in a call: ")
    assert summary.endswith(reason)


def test_a_graph_whose_states_are_at_other_places_is_not_unrolled(bundle: Bundle) -> None:
    first, second = bundle.interface.state_tensors
    tensors = (
        TensorSpec(first.name, (second.size,)),
        TensorSpec(second.name, (first.size,)),
    )
    swapped = dataclasses.replace(bundle.interface, state_tensors=tensors)
    with pytest.raises(UnrollingError, match="at other places"):
        Unrolling(bundle.step_graph, swapped)


def test_a_sensor_of_whole_numbers_is_looked_at_in_each_frame(bundle: Bundle) -> None:
    whole = Sensor("whole", "", -5.0, 5.0, whole=True)
    interface = Interface(
        (whole, *bundle.interface.sensors[1:]),
        bundle.interface.state_tensors,
        bundle.interface.heads,
    )
    cell = LiteRTCell(
        bundle.step_graph, interface, probe.frames("00" * 32, interface), bundle.steps_graph
    )
    frames = np.zeros((20, 10), np.float32)
    cell.steps(frames, cell.initial_state())
    frames[17, 0] = 0.5
    with pytest.raises(ValueError, match="whole"):
        cell.steps(frames, cell.initial_state())

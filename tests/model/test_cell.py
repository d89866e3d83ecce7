"""The cell's own promises, on the shipped graph: pure, and the same bits in any batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent import futures

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tickcell.model import extras, probe
from tickcell.model.bundle import Bundle
from tickcell.model.cell import Cell, CellError, FrameShapeError, LiteRTCell
from tickcell.model.interface import Head, Interface, Sensor


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def cell(bundle: Bundle) -> LiteRTCell:
    return bundle.cell()


def test_initial_state_is_a_row_of_zeros_per_series(bundle: Bundle, cell: LiteRTCell) -> None:
    state = cell.initial_state(3)

    assert state.dtype == np.float32
    assert state.shape == (3, bundle.interface.state_size)
    assert not state.any()


def test_a_frame_without_series_gives_an_output_without_series(
    bundle: Bundle, cell: LiteRTCell
) -> None:
    frame = bundle.golden.frames[0]

    output, next_state = cell.step(frame, cell.initial_state())
    rows, same_state = cell.step(frame[np.newaxis], cell.initial_state())

    assert output.shape == (bundle.interface.output_count,)
    assert output.tobytes() == rows.tobytes()
    assert next_state.tobytes() == same_state.tobytes()


def test_a_step_changes_neither_frame_nor_state(bundle: Bundle, cell: LiteRTCell) -> None:
    frames = bundle.golden.frames[:3].copy()
    _, state = cell.step(frames, cell.initial_state(3))
    frames_before, state_before = frames.tobytes(), state.tobytes()

    cell.step(frames, state)

    assert (frames.tobytes(), state.tobytes()) == (frames_before, state_before)


def test_what_a_step_returns_is_not_changed_by_the_next_step(
    bundle: Bundle, cell: LiteRTCell
) -> None:
    output, state = cell.step(bundle.golden.frames[0], cell.initial_state())
    output_before, state_before = output.tobytes(), state.tobytes()

    cell.step(bundle.golden.frames[1], state)

    assert (output.tobytes(), state.tobytes()) == (output_before, state_before)


@pytest.mark.parametrize("rows", [2, 3, 5, 16, 33, 256, 300, 600])
def test_each_row_has_the_bits_of_a_batch_of_one(
    bundle: Bundle, cell: LiteRTCell, rows: int
) -> None:
    frames = np.resize(bundle.golden.frames[7:], (rows, bundle.interface.sensor_count))
    state = cell.initial_state(rows)
    state[:] = np.random.default_rng(1).uniform(-1, 1, state.shape)

    outputs, next_state = cell.step(frames, state)

    for row in range(rows):
        output, row_state = cell.step(frames[row : row + 1], state[row : row + 1])
        assert output[0].tobytes() == outputs[row].tobytes(), f"row {row} of {rows}"
        assert row_state[0].tobytes() == next_state[row].tobytes(), f"row {row} of {rows}"


def test_batches_of_every_size_have_the_bits_of_a_batch_of_one(
    bundle: Bundle, cell: LiteRTCell
) -> None:
    frames = np.resize(bundle.golden.frames[11:], (256, bundle.interface.sensor_count))
    state = cell.initial_state(256)
    state[:] = np.random.default_rng(2).uniform(-1, 1, state.shape)
    rows = np.concatenate((frames, state), axis=1)
    alone = [cell.step_rows(row.tobytes()) for row in rows]
    for count in range(1, 257):
        assert cell.step_rows(rows[:count].tobytes()) == b"".join(alone[:count]), count


@pytest.mark.parametrize("lockstep", [LiteRTCell.lockstep, Cell.lockstep], ids=["own", "any"])
@pytest.mark.parametrize("rows", [1, 2, 5, 100, 256, 300, 600])
def test_lockstep_has_the_bits_of_single_steps(
    bundle: Bundle, cell: LiteRTCell, rows: int, lockstep: Callable[..., bool]
) -> None:
    chance = np.random.default_rng(3)
    frames = chance.choice(bundle.golden.frames, (7, rows))
    state = chance.uniform(-1, 1, (rows, bundle.interface.state_size)).astype(np.float32)
    expected, expected_state = cell.steps(frames, state.copy())
    outputs = np.full_like(expected, np.nan)

    assert lockstep(cell, frames, state, outputs)

    assert outputs.tobytes() == expected.tobytes()
    assert state.tobytes() == expected_state.tobytes()


@pytest.mark.parametrize("lockstep", [LiteRTCell.lockstep, Cell.lockstep], ids=["own", "any"])
def test_lockstep_tells_what_is_not_finite_and_is_not_misled_by_the_steps_before(
    bundle: Bundle, cell: LiteRTCell, lockstep: Callable[..., bool]
) -> None:
    frames = np.resize(bundle.golden.frames, (3, 250, bundle.interface.sensor_count))
    outputs = np.empty((3, 250, bundle.interface.output_count), np.float32)
    state = cell.initial_state(250)
    state[240] = np.nan

    assert not lockstep(cell, frames, state, outputs)
    # Fewer rows of the same batch, in whose place behind them the one before is still there.
    assert lockstep(cell, frames[:, :200], cell.initial_state(200), outputs[:, :200])


def test_the_numerics_digest_is_the_same_at_every_load(bundle: Bundle, cell: LiteRTCell) -> None:
    assert bundle.cell().numerics_digest == cell.numerics_digest


def test_the_numerics_digest_tells_other_bits_apart(bundle: Bundle, cell: LiteRTCell) -> None:
    other = LiteRTCell(bundle.step_graph, bundle.interface, bundle.golden.frames[::-1])

    assert other.numerics_digest != cell.numerics_digest


def test_the_numerics_digest_does_not_depend_on_the_golden(bundle: Bundle) -> None:
    golden = dataclasses.replace(
        bundle.golden, frames=bundle.golden.frames[:50], outputs=bundle.golden.outputs[:50]
    )
    other = dataclasses.replace(bundle, golden=golden)
    assert other.fingerprint == bundle.fingerprint
    assert other.cell().numerics_digest == bundle.cell().numerics_digest


def test_the_numerics_digest_of_other_weights_is_another(bundle: Bundle) -> None:
    graph = bytearray(bundle.step_graph)
    largest = max(range(0, len(graph) - 4096, 4), key=lambda at: len({*graph[at : at + 4096]}))
    # The lowest bit of a weight.
    graph[largest + 2048] ^= 1
    other = dataclasses.replace(bundle, step_graph=bytes(graph))
    assert other.cell().numerics_digest != bundle.cell().numerics_digest


def test_the_probe_is_within_the_sensors_ranges_and_follows_from_the_fingerprint(
    bundle: Bundle,
) -> None:
    sensors = (
        Sensor("a", "1", -5.0, 1.0),
        Sensor("b", "1", 10.0, 11.0),
        Sensor("c", "1", -1e30, 0),
    )
    interface = dataclasses.replace(bundle.interface, sensors=sensors)
    frames = probe.frames(bundle.fingerprint, interface)
    assert frames.shape == (256, 3)
    assert frames.dtype == np.float32
    for index, sensor in enumerate(sensors):
        assert frames[:, index].min() >= np.float32(sensor.min_reading)
        assert frames[:, index].max() <= np.float32(sensor.max_reading)
    again = probe.frames(bundle.fingerprint, interface)
    assert again.tobytes() == frames.tobytes()
    assert probe.frames("00" * 32, interface).tobytes() != frames.tobytes()


def test_the_probe_shows_a_kernel_that_rounds_otherwise(bundle: Bundle, cell: LiteRTCell) -> None:
    """LiteRT's own kernels, without the faster ones that a cell runs."""
    other = Interpreter(
        model_content=bundle.step_graph,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    step = other.get_signature_runner("step")
    state = cell.initial_state()
    differing = 0
    for frame in probe.frames(bundle.fingerprint, bundle.interface):
        row = np.concatenate((frame[np.newaxis], state), axis=1)
        stepped = cell.step_rows(row.tobytes())
        differing += step(frame_and_state=row)["output_and_state"].tobytes() != stepped
        state = np.frombuffer(stepped, "<f4")[np.newaxis, bundle.interface.output_count :]
    assert differing > 64


@pytest.mark.parametrize("columns", [0, 9, 11])
def test_a_frame_of_another_width_is_refused(
    bundle: Bundle, cell: LiteRTCell, columns: int
) -> None:
    frame = np.zeros((1, columns), np.float32)

    with pytest.raises(FrameShapeError, match=rf"got float32 \[1, {columns}\], expected"):
        cell.step(frame, cell.initial_state())


def test_a_frame_of_doubles_is_refused(bundle: Bundle, cell: LiteRTCell) -> None:
    with pytest.raises(FrameShapeError, match="got float64"):
        cell.step(bundle.golden.frames[0].astype(np.float64), cell.initial_state())


def test_a_state_of_another_series_count_is_refused(bundle: Bundle, cell: LiteRTCell) -> None:
    with pytest.raises(FrameShapeError, match="state: got"):
        cell.step(bundle.golden.frames[:2], cell.initial_state(3))


def test_bytes_that_are_no_graph_are_refused(bundle: Bundle) -> None:
    with pytest.raises(CellError, match="not a LiteRT model"):
        LiteRTCell(b"no graph at all", bundle.interface, bundle.golden.frames)


def test_a_graph_of_another_output_count_is_refused(bundle: Bundle) -> None:
    interface = dataclasses.replace(bundle.interface, heads=(Head("a", 1), Head("b", 1)))

    with pytest.raises(CellError, match=r"expected \[1, 2 \+ 72\]"):
        LiteRTCell(bundle.step_graph, interface, bundle.golden.frames)


def test_a_graph_of_another_state_size_is_refused(bundle: Bundle) -> None:
    tensors = bundle.interface.state_tensors
    widened = (dataclasses.replace(tensors[0], shape=(tensors[0].size + 1,)), *tensors[1:])
    interface = dataclasses.replace(bundle.interface, state_tensors=widened)

    with pytest.raises(CellError):
        LiteRTCell(bundle.step_graph, interface, bundle.golden.frames)


def test_a_missing_extra_is_named_with_its_command() -> None:
    with pytest.raises(extras.MissingExtraError, match=r"pip install 'tickcell\[plot\]'"):
        extras.load("surely_not_installed.part", extra="plot")


def test_interface_survives_json(bundle: Bundle) -> None:
    assert Interface.from_json(bundle.interface.to_json()) == bundle.interface


def test_threads_that_share_a_cell_do_not_disturb_each_other(bundle: Bundle) -> None:
    cell = bundle.cell()
    frames = bundle.golden.frames[:400]

    def loop(start: int) -> bytes:
        outputs = []
        state = cell.initial_state()
        for frame in np.roll(frames, -start, axis=0):
            output, state = cell.step(frame, state)
            outputs.append(output)
        return np.stack(outputs).tobytes()

    alone = [loop(start) for start in range(8)]
    with futures.ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(loop, range(8))) == alone

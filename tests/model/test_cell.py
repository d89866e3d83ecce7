"""The cell's own promises, on the shipped graph: pure, and the same bits in any batch."""

from __future__ import annotations

import dataclasses
from concurrent import futures

import numpy as np
import pytest

from tickcell.model import extras
from tickcell.model.bundle import Bundle
from tickcell.model.cell import CellError, FrameShapeError, LiteRTCell
from tickcell.model.interface import Interface


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


def test_the_numerics_digest_is_the_same_at_every_load(bundle: Bundle, cell: LiteRTCell) -> None:
    assert bundle.cell().numerics_digest == cell.numerics_digest


def test_the_numerics_digest_tells_other_bits_apart(bundle: Bundle, cell: LiteRTCell) -> None:
    other = LiteRTCell(bundle.step_graph, bundle.interface, bundle.golden.frames[::-1])

    assert other.numerics_digest != cell.numerics_digest


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
    interface = dataclasses.replace(bundle.interface, output_names=("a", "b"))

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

"""Cells and networks: a layer over whole sequences, unrolled or not, is the loop by hand."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest

from tickcell.model.keras.cells import AdditiveCell, RNNCell
from tickcell.model.keras.models import RNNModel, UnrolledRNN

# Keras 3 hands its variables to numpy 2 in a way that numpy is about to give up.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

# Two orders of float32 addition differ by some units in the last place a step.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((3, 17, 10)).astype(np.float32)


def by_hand(cell: Any, frames: np.ndarray) -> np.ndarray:
    states = cell.get_initial_state(len(frames))
    outputs = []
    for index in range(frames.shape[1]):
        output, states = cell(frames[:, index], states)
        outputs.append(np.asarray(output))
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("unroll", [False, True])
def test_rnn_layer_over_the_cell_is_the_loop_by_hand(frames: np.ndarray, unroll: bool) -> None:
    cell = RNNCell(6, 8)
    layer = keras.layers.RNN(cell, return_sequences=True, unroll=unroll)

    outputs = np.asarray(layer(frames))

    delta = np.abs(outputs - by_hand(cell, frames))
    assert outputs.shape == (3, 17, cell.output_size)
    assert delta.max() <= TOLERANCE, f"max |delta| {delta.max()}"


def test_initial_states_have_an_axis_of_series() -> None:
    states = RNNCell(6, 8).get_initial_state(batch_size=5)

    assert [tuple(state.shape) for state in states] == [(5, 6), (5, 8)]


def test_states_are_the_values_before_layer_normalisation(frames: np.ndarray) -> None:
    cell = RNNCell(6, 8)

    output, (_, state) = cell(frames[:, 0], cell.get_initial_state(3))

    assert np.abs(np.asarray(state)).max() <= 1.0
    delta = np.abs(np.asarray(cell.layer_norm_2(state)) - np.asarray(output))
    assert delta.max() == 0.0


def test_recurrent_kernels_start_orthogonal(frames: np.ndarray) -> None:
    cell = RNNCell(6, 8)
    cell(frames[:, 0], cell.get_initial_state(3))

    kernel = np.asarray(cell.recurrent_layer_2.kernel)

    np.testing.assert_allclose(kernel @ kernel.T, np.eye(8), atol=1e-5)


def test_unrolled_rnn_applies_one_layer_to_state_plus_frame(frames: np.ndarray) -> None:
    model = UnrolledRNN(return_sequences=True)
    layer = model.get_layer("recurrent").cell.layer
    head = model.get_layer("output")

    outputs = np.asarray(model(frames))

    state = np.zeros((3, 10), np.float32)
    for index in range(frames.shape[1]):
        state = layer(state + frames[:, index])
        delta = np.abs(np.asarray(head(state)) - outputs[:, index])
        assert delta.max() <= TOLERANCE, f"step {index}: max |delta| {delta.max()}"


def test_an_additive_cell_must_be_as_wide_as_a_frame(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match="got frames of 10 readings, expected 7"):
        keras.layers.RNN(AdditiveCell(7))(frames)


@pytest.mark.parametrize("unroll", [False, True])
def test_the_last_output_is_that_of_the_whole_sequence(frames: np.ndarray, unroll: bool) -> None:
    each = RNNModel(6, 8, return_sequences=True)
    last = RNNModel(6, 8, step_count=17, unroll=unroll)
    last.set_weights(each.get_weights())

    delta = np.abs(np.asarray(each(frames))[:, -1] - np.asarray(last(frames)))

    assert delta.max() <= TOLERANCE, f"max |delta| {delta.max()}"


def test_normalisation_is_inside_the_network(frames: np.ndarray) -> None:
    plain = RNNModel(6, 8, return_sequences=True)
    readings = frames * 7.0 + 3.0
    scaled = RNNModel(6, 8, return_sequences=True)
    scaled.set_weights(plain.get_weights())
    scaled.normalisation.adapt(readings.reshape(1, -1, 10))
    standardised = (readings - readings.mean((0, 1))) / readings.std((0, 1))

    delta = np.abs(np.asarray(scaled(readings)) - np.asarray(plain(standardised)))

    assert delta.max() <= 1e-5, f"max |delta| {delta.max()}"


@pytest.mark.parametrize(
    "model",
    [
        RNNModel(5, 7, sensor_count=4, return_sequences=True, dropout=0.1),
        UnrolledRNN(4, return_sequences=True),
    ],
    ids=["RNNModel", "UnrolledRNN"],
)
def test_a_saved_network_loads_without_custom_objects(model: Any, tmp_path: pathlib.Path) -> None:
    frames = np.random.default_rng(2).standard_normal((2, 9, 4)).astype(np.float32)
    model.compile(optimizer="adam", loss="binary_crossentropy")
    model.fit(frames, np.ones((2, 9, 1), np.float32), epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    assert type(loaded) is type(model)
    assert np.asarray(loaded(frames)).tobytes() == np.asarray(model(frames)).tobytes()
    assert int(loaded.optimizer.iterations) == 2

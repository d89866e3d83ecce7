"""Any recurrent Keras model, trained a little, streams what it gives over the whole sequence."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from tickcell import drive
from tickcell.cli import server_process
from tickcell.client import Session
from tickcell.model import agreement
from tickcell.model import recording as recordings_of
from tickcell.model.bundle import Bundle
from tickcell.model.cell import BATCH_SHAPES
from tickcell.model.interface import InterfaceError
from tickcell.model.keras import archive, conversion, export, sequence
from tickcell.model.keras.description import Description
from tickcell.model.keras.models import RNNModel, UnrolledRNN
from tickcell.model.keras.step import Step

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

DESCRIPTION = Description("model", "1", drive.SENSORS, 50.0)


def sequential(*inner: Any) -> Any:
    return keras.Sequential([keras.Input((None, 10)), layers.Normalization(), *inner])


def mixed() -> Any:
    """Two recurrent layers beside each other, three more stacked in one, and much between."""
    frames = keras.Input((None, 10))
    normalised = layers.Normalization()(frames)
    beside = layers.Concatenate()(
        [
            layers.GRU(6, return_sequences=True)(normalised),
            layers.LSTM(5, return_sequences=True)(normalised),
            normalised,
        ]
    )
    value = layers.Dense(8, activation="relu")(layers.LayerNormalization()(beside))
    cells = [layers.LSTMCell(5), layers.GRUCell(4), layers.SimpleRNNCell(6)]
    stacked = layers.RNN(layers.StackedRNNCells(cells), return_sequences=True)(value)
    value = layers.BatchNormalization()(layers.Dropout(0.2)(stacked))
    value = layers.Add()([layers.TimeDistributed(layers.Dense(6))(value), value])
    return keras.Model(frames, layers.Dense(1, activation="sigmoid")(value))


def nested() -> Any:
    """A model inside a model, which is called twice."""
    inner = keras.Sequential([keras.Input((None, 10)), layers.GRU(10, return_sequences=True)])
    frames = keras.Input((None, 10))
    value = inner(inner(layers.Normalization()(frames)))
    return keras.Model(frames, layers.Dense(1, activation="sigmoid")(value))


MODELS: dict[str, Callable[[], Any]] = {
    "UnrolledRNN": UnrolledRNN,
    "RNNModel": lambda: RNNModel(return_sequences=True, dropout=0.1),
    "RNNModel-last": lambda: RNNModel(12, 14, step_count=20),
    "SimpleRNN": lambda: sequential(
        layers.SimpleRNN(12, return_sequences=True), layers.Dense(1, activation="sigmoid")
    ),
    "GRU": lambda: sequential(
        layers.GRU(12, return_sequences=True), layers.Dense(1, activation="sigmoid")
    ),
    "LSTM": lambda: sequential(
        layers.LSTM(12, dropout=0.1, recurrent_dropout=0.1), layers.Dense(1, activation="sigmoid")
    ),
    "stacked": lambda: sequential(
        layers.LSTM(8, return_sequences=True),
        layers.GRU(8, return_sequences=True, reset_after=False),
        layers.SimpleRNN(8),
        layers.BatchNormalization(),
        layers.Dense(1, activation="sigmoid"),
    ),
    "mixed": mixed,
    "nested": nested,
}


# Those of whose cells the others have all kinds.
LONG = frozenset({"SimpleRNN", "GRU", "LSTM", "stacked"})
SHORT = [name for name in MODELS if name not in LONG]


@pytest.fixture(scope="module")
def frames(recordings: pathlib.Path) -> np.ndarray:
    """10,000 steps of a real recording."""
    return recordings_of.read(recordings / "trip17.csv", drive.SENSORS).frames[:10_000]


def trained(build: Callable[[], Any], frames: np.ndarray, path: pathlib.Path) -> Any:
    """Fits a model for two epochs, saves it, and loads it as `tickcell export` does."""
    keras.utils.set_random_seed(1)
    model = build()
    for layer in model.layers:
        if isinstance(layer, layers.Normalization):
            layer.adapt(frames[np.newaxis])
    windows = frames.reshape(-1, 20, 10)[:64]
    labels = np.random.default_rng(1).integers(0, 2, (64, 20, 1)).astype(np.float32)
    if len(model.outputs[0].shape) == 2:
        labels = labels[:, -1]
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="binary_crossentropy")
    model.fit(windows, labels, epochs=2, verbose=0)
    model.save(path)
    return archive.load(path)


@pytest.fixture(scope="module")
def bundles(
    frames: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Bundle]:
    """Trains and exports a model by its name, once."""
    directory = tmp_path_factory.mktemp("models")

    @functools.cache
    def exported(name: str) -> Bundle:
        model = trained(MODELS[name], frames, directory / f"{name}.keras")
        description = dataclasses.replace(DESCRIPTION, name=name)
        return export.export(model, description, frames, random_step_count=1000)

    return exported


@pytest.mark.parametrize(
    "name", [*SHORT, *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(LONG))]
)
def test_streamed_outputs_are_those_of_the_whole_sequence(
    name: str, frames: np.ndarray, bundles: Callable[[str], Bundle]
) -> None:
    bundle = bundles(name)

    streamed = agreement.stream(bundle.cell(), frames[np.newaxis])

    measured = agreement.compare(streamed, bundle.golden.outputs[np.newaxis])
    print(f"{name}: max |delta| {measured.max_delta:.2g} at step {measured.at_step}")
    assert measured.max_delta <= 1e-5
    assert bundle.card.keras_max_delta_steps == 10_000
    assert bundle.cell().batch_shapes == BATCH_SHAPES


@pytest.mark.parametrize(
    "names", [SHORT, pytest.param([*MODELS], marks=pytest.mark.slow)], ids=["short", "all"]
)
def test_each_model_is_served_as_it_runs_in_process(
    names: list[str],
    frames: np.ndarray,
    bundles: Callable[[str], Bundle],
    tmp_path: pathlib.Path,
) -> None:
    arguments = []
    for name in names:
        bundles(name).write(tmp_path / name)
        arguments += ["--bundle", str(tmp_path / name)]

    with server_process.temporary(*arguments) as server:
        for name in names:
            with Session.create(server.address, model=name) as session:
                outputs = session.steps(frames)
            streamed = agreement.stream(bundles(name).cell(), frames[np.newaxis])[0]
            delta = np.abs(outputs - bundles(name).golden.outputs)
            assert outputs.tobytes() == streamed.tobytes(), name
            assert delta.max() <= 1e-5, f"{name}: max |delta| {delta.max()} at {delta.argmax()}"


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_one_step_in_keras_is_the_whole_sequence(
    name: str, frames: np.ndarray, tmp_path: pathlib.Path
) -> None:
    import tensorflow as tf

    model = trained(MODELS[name], frames, tmp_path / "model.keras")
    step = Step(model)
    run = tf.function(step, autograph=False)
    expected = sequence.outputs(step.plan, frames[np.newaxis])[0]

    states = step.initial_states(1)
    for index, frame in enumerate(frames):
        output, states = run(tf.constant(frame[np.newaxis]), states)
        delta = np.abs(np.asarray(output) - expected[index]).max()
        assert delta <= 1e-5, f"step {index}: |delta| {delta}"


def small(build: Callable[[], Any]) -> Any:
    keras.utils.set_random_seed(2)
    return build()


def test_the_same_model_gives_the_same_bytes() -> None:
    model = small(lambda: RNNModel(4, 5, return_sequences=True))

    assert conversion.convert(Step(model)) == conversion.convert(Step(model))


def test_states_are_named_after_their_layers() -> None:
    frames = keras.Input((None, 10))
    value = layers.LSTM(3, return_sequences=True, name="wheel")(frames)
    cells = [layers.GRUCell(2), layers.LSTMCell(4)]
    value = layers.RNN(cells, return_sequences=True, name="road")(value)
    model = keras.Model(frames, layers.Dense(1)(value))

    names = [(tensor.name, tensor.shape) for tensor in Step(model).state_tensors]

    assert names == [
        ("wheel_h", (3,)),
        ("wheel_c", (3,)),
        ("road_1_h", (2,)),
        ("road_2_h", (4,)),
        ("road_2_c", (4,)),
    ]


def test_a_model_that_keeps_its_own_state_is_exported_without_it() -> None:
    def build() -> Any:
        return keras.Sequential(
            [
                keras.Input(batch_shape=(1, 1, 10)),
                layers.LSTM(6, stateful=True, return_sequences=True),
                layers.Dense(2),
            ]
        )

    bundle = export.export(small(build), DESCRIPTION)

    assert bundle.card.keras_max_delta is not None
    assert bundle.card.keras_max_delta <= 1e-5
    assert bundle.interface.output_names == ("output_1", "output_2")


def test_a_recurrence_that_amplifies_its_last_bit_is_exported_and_said_so() -> None:
    def build() -> Any:
        recurrent = layers.SimpleRNN(
            24, return_sequences=True, recurrent_initializer=keras.initializers.Orthogonal(1.6)
        )
        return keras.Sequential([keras.Input((None, 10)), recurrent, layers.Dense(1)])

    # Readings near 0, where tanh does not hold the recurrence back.
    quiet = np.random.default_rng(1).normal(0, 1e-3, (500, 10)).astype(np.float32)
    card = export.export(small(build), DESCRIPTION, quiet).card

    measured = card.metrics["keras_agreement"]
    assert measured["amplifies"]
    assert measured["random_frames"]["growth"]["10"] <= 1e-5
    assert card.keras_max_delta is not None
    assert card.keras_max_delta > 1e-2


@keras.saving.register_keras_serializable(package="tests")
class Hindsight(layers.Dense):  # type: ignore[misc]  # Keras comes without types
    """Treats each frame on its own, until there are more than it is tried with."""

    def call(self, frames: Any, training: bool | None = None) -> Any:
        seen = keras.ops.mean(frames, axis=1, keepdims=True)
        return super().call(frames) + keras.ops.where(keras.ops.shape(frames)[1] > 5, seen, 0.0)


def test_a_layer_that_looks_elsewhere_is_caught_by_comparison() -> None:
    model = small(lambda: sequential(Hindsight(10), layers.GRU(3, return_sequences=True)))

    with pytest.raises(agreement.AgreementError, match="differ by"):
        export.export(model, DESCRIPTION)


@keras.saving.register_keras_serializable(package="tests")
class Restless(layers.GRUCell):  # type: ignore[misc]  # Keras comes without types
    """A cell that draws numbers."""

    def call(self, frame: Any, states: Any, training: bool = False) -> Any:
        noise = keras.random.normal(keras.ops.shape(frame))
        return super().call(frame + noise, states, training=training)


def test_a_model_that_is_random_is_told_so() -> None:
    model = small(lambda: sequential(layers.RNN(Restless(3), return_sequences=True)))

    with pytest.raises(agreement.AgreementError, match=r"something else each time .* random"):
        export.export(model, DESCRIPTION, random_step_count=200)


def test_weights_that_diverged_are_named() -> None:
    model = small(lambda: sequential(layers.GRU(3, return_sequences=True, name="wheel")))
    model.get_layer("wheel").set_weights(
        [weight * np.nan for weight in model.get_layer("wheel").get_weights()]
    )

    with pytest.raises(agreement.AgreementError, match=r"weight '.*wheel.*' is not finite, as"):
        export.export(model, DESCRIPTION, random_step_count=200)


def test_a_comparison_says_where_it_is_worst() -> None:
    expected = np.zeros((2, 30, 1), np.float32)
    got = expected.copy()
    got[1, 20] = 0.5
    got[0, 4] = -0.25

    measured = agreement.compare(got, expected)

    assert (measured.max_delta, measured.at_step, measured.step_count) == (0.5, 20, 30)
    assert measured.growth == {"10": 0.25, "30": 0.5}


def test_each_output_is_compared_on_its_own_scale() -> None:
    """Next to a speed in rpm, a probability may not be as far off as the speed may."""
    expected = np.tile(np.array([3000.0, 0.5], np.float32), (1, 30, 1))
    off = np.array([0.02, 0.001], np.float32)

    speed = agreement.compare(expected + off * np.array([1, 0], np.float32), expected)
    both = agreement.compare(expected + off, expected)

    assert speed.is_close
    assert speed.tolerance == pytest.approx(0.03)
    assert not both.is_close
    assert both.max_delta == pytest.approx(0.001, rel=1e-3)
    assert both.tolerance == pytest.approx(1e-5)


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
def test_how_long_a_number_is_remembered_does_not_hang_on_its_unit(unit: float) -> None:
    def build() -> Any:
        return sequential(layers.GRU(6, return_sequences=True), layers.Rescaling(unit))

    quiet = np.random.default_rng(1).normal(0, 1, (300, 10)).astype(np.float32)
    card = export.export(small(build), DESCRIPTION, quiet, random_step_count=200).card

    assert 3 <= card.warm_up_steps <= 30


def test_sensors_must_be_as_many_as_readings() -> None:
    model = small(lambda: RNNModel(4, 5, sensor_count=3, return_sequences=True))

    with pytest.raises(InterfaceError, match="takes 3 readings, and 10 sensors are named"):
        export.export(model, DESCRIPTION)

"""Three networks, each trained for a moment, from `fit` to a stream: beside Keras's `predict`."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import streaming_proof
from tickcell.cli import command_line, server_process
from tickcell.client import Session
from tickcell.model import agreement
from tickcell.model.bundle import Bundle
from tickcell.model.keras import archive, plan

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

_COUNT, _LENGTH, _SENSORS = 96, 48, 3
_DELAY = 6


@dataclasses.dataclass(frozen=True, slots=True)
class Trained:
    """A network after `fit`, and what it was fitted on."""

    model: Any
    frames: np.ndarray
    losses: list[float]


def drawn(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((_COUNT, _LENGTH, _SENSORS), np.float32)


def fitted(model: Any, frames: np.ndarray, labels: Any, loss: Any) -> Trained:
    model.compile(keras.optimizers.Adam(1e-2), loss)
    history = model.fit(frames, labels, epochs=5, batch_size=16, verbose=0)
    return Trained(model, frames, history.history["loss"])


def causal_tcn() -> Trained:
    """Dilated causal convolutions with skips learn what a sensor read six frames ago."""
    sequence = keras.Input((None, _SENSORS))
    value = layers.Conv1D(12, 1)(sequence)
    for dilation in (1, 2, 4):
        inner = layers.Conv1D(12, 3, padding="causal", dilation_rate=dilation, activation="relu")(
            value
        )
        value = layers.Add()([value, inner])
    model = keras.Model(sequence, layers.Dense(1)(value))
    frames = drawn()
    delayed = np.concatenate(
        [np.zeros((_COUNT, _DELAY, 1), np.float32), frames[:, :-_DELAY, :1]], axis=1
    )
    return fitted(model, frames, delayed, "mse")


def masked_lstm() -> Trained:
    """An LSTM behind Masking learns, of sequences of many lengths, whether one sensor leads."""
    frames = drawn()
    lengths = np.random.default_rng(1).integers(4, _LENGTH, _COUNT)
    frames[np.arange(_LENGTH) >= lengths[:, np.newaxis]] = 0.0
    labels = frames[..., 0].sum(axis=1) > frames[..., 1].sum(axis=1)
    model = keras.Sequential(
        [
            keras.Input((None, _SENSORS)),
            layers.Masking(),
            layers.LSTM(12),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    return fitted(model, frames, labels.astype(np.float32), "binary_crossentropy")


def two_headed_gru() -> Trained:
    """A GRU learns a number and one of four classes at each frame."""
    sequence = keras.Input((None, _SENSORS))
    value = layers.GRU(16, return_sequences=True)(sequence)
    model = keras.Model(
        sequence,
        {
            "speed": layers.Dense(1)(value),
            "activity": layers.Dense(4, activation="softmax")(value),
        },
    )
    frames = drawn()
    sums = np.cumsum(frames, axis=1)
    classes = 2 * (sums[..., 0] > 0) + (sums[..., 1] > 0)
    return fitted(
        model,
        frames,
        {"speed": frames[..., :1] * 3.0, "activity": classes[..., np.newaxis]},
        {"speed": "mse", "activity": "sparse_categorical_crossentropy"},
    )


def at_each_frame(model: Any, frames: np.ndarray) -> np.ndarray:
    """What Keras gives for one whole recording `[T, F]`, heads in the order of their names."""
    given = model.predict(frames[np.newaxis], verbose=0)
    heads = [given[name] for name in sorted(given)] if isinstance(given, dict) else [given]
    return np.asarray(np.concatenate(heads, axis=-1)[0])


def of_padded_batches(model: Any, frames: np.ndarray) -> np.ndarray:
    """What Keras gives for each beginning of a recording, padded to the length of all."""
    count = len(frames)
    padded = np.tile(frames, (count, 1, 1))
    padded[np.arange(count) > np.arange(count)[:, np.newaxis]] = 0.0
    return np.asarray(model.predict(padded, verbose=0))


NETWORKS: dict[str, tuple[Callable[[], Trained], Callable[[Any, np.ndarray], np.ndarray]]] = {
    "causal-tcn": (causal_tcn, at_each_frame),
    "masked-lstm": (masked_lstm, of_padded_batches),
    "two-headed-gru": (two_headed_gru, at_each_frame),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Each network, trained, saved and exported by the command."""
    directory = tmp_path_factory.mktemp("networks")
    for name, (train, _) in NETWORKS.items():
        keras.utils.set_random_seed(1)
        trained = train()
        assert trained.losses[-1] < 0.95 * trained.losses[0], name
        trained.model.save(directory / f"{name}.keras")
        np.savez(directory / f"{name}.npz", frames=trained.frames[:4].reshape(-1, _SENSORS))
        export = ["export", str(directory / f"{name}.keras"), "--rate-hz=50"]
        golden = f"--golden={directory / name}.npz"
        assert command_line.main([*export, golden, f"--out={directory / name}"]) == 0
    return directory


@pytest.fixture(scope="module")
def address(directory: pathlib.Path) -> Iterator[str]:
    bundles = [argument for name in NETWORKS for argument in ("--bundle", str(directory / name))]
    with server_process.temporary(*bundles) as server:
        yield server.address


@pytest.mark.parametrize("name", NETWORKS)
def test_a_trained_network_is_served_as_its_framework_computes_it(
    name: str, directory: pathlib.Path, address: str
) -> None:
    model = archive.load(directory / f"{name}.keras")
    bundle = Bundle.load(directory / name)
    frames = np.random.default_rng(7).standard_normal((200, _SENSORS), np.float32)
    frames[90:93] = 0.0  # Where there is a mask, the sensors dropped out here.
    expected = NETWORKS[name][1](model, frames)

    with Session.create(address, model=name) as session:
        streamed = np.stack(list(session.stream(frames)))

    measured = agreement.compare(streamed[np.newaxis], expected[np.newaxis])
    print(f"{name}: max |delta| {measured.max_delta:.2g} to predict over {len(frames)} steps")
    assert measured.is_close, measured
    several, read = frames[np.newaxis], plan.read(model)
    streaming_proof.assert_moves(expected[np.newaxis], bundle.interface.output_names)
    streaming_proof.assert_remembers(bundle.cell(), several, streaming_proof.oldest(read))
    streaming_proof.assert_each_state_matters(bundle.cell(), several, expected[np.newaxis])


def test_the_two_heads_are_a_number_and_four_classes(directory: pathlib.Path) -> None:
    heads = Bundle.load(directory / "two-headed-gru").interface.heads

    assert [(head.name, head.size, head.kind) for head in heads] == [
        ("activity", 4, "classes"),
        ("speed", 1, "number"),
    ]

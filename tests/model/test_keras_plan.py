"""What cannot be streamed is refused by one sentence that names the layer and says why."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import pytest
from keras import layers

from tickcell.model.keras import archive, plan
from tickcell.model.keras.archive import ModelFileError
from tickcell.model.keras.plan import UnstreamableError

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)


def around(*inner: Any) -> Any:
    """A model of the layers, with a recurrent layer and a head behind them."""
    frames = keras.Input((None, 4))
    value = frames
    for layer in inner:
        value = layer(value)
    return keras.Model(frames, layers.Dense(1)(layers.GRU(3, return_sequences=True)(value)))


def behind(layer: Any) -> Any:
    """A model of a recurrent layer that gives its last output, and the layer behind it."""
    frames = keras.Input((6, 4))
    return keras.Model(frames, layer(layers.GRU(3)(frames)))


def attention() -> Any:
    frames = keras.Input((None, 4))
    value = layers.GRU(4, return_sequences=True)(frames)
    return keras.Model(frames, layers.Attention(name="gaze")([value, value]))


def joined_with_the_last() -> Any:
    frames = keras.Input((1, 3))
    each = layers.GRU(3, return_sequences=True)(frames)
    return keras.Model(frames, layers.Add(name="joined")([each, layers.GRU(3)(frames)]))


def with_state_given() -> Any:
    frames = keras.Input((6, 4))
    value = layers.Dense(3)(layers.GRU(4)(frames))
    return keras.Model(frames, layers.GRU(3, name="second")(frames, initial_state=value))


def with_operation() -> Any:
    frames = keras.Input((None, 4))
    return keras.Model(frames, keras.ops.sin(layers.GRU(3, return_sequences=True)(frames)))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "bidirectional": (
        lambda: around(layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")),
        r"layer 'both' \(Bidirectional\) .* from its end",
    ),
    "backwards": (
        lambda: around(layers.LSTM(3, go_backwards=True, return_sequences=True, name="back")),
        r"layer 'back' \(LSTM\) .* \(go_backwards",
    ),
    "attention": (attention, r"layer 'gaze' \(Attention\) .* all frames at once"),
    "masking": (lambda: around(layers.Masking(name="mask")), r"layer 'mask' \(Masking\)"),
    "convolution": (
        lambda: around(layers.Conv1D(3, 3, name="conv")),
        r"layer 'conv' \(Conv1D\) .* several frames",
    ),
    "repetition": (
        lambda: behind(layers.RepeatVector(6, name="again")),
        r"layer 'again' \(RepeatVector\)",
    ),
    "state as output": (
        lambda: keras.Model(
            frames := keras.Input((6, 4)), layers.GRU(3, return_state=True, name="open")(frames)[0]
        ),
        r"layer 'open' \(GRU\) .* \(return_state",
    ),
    "state as input": (with_state_given, r"layer 'second' \(GRU\)"),
    "normalisation over time": (
        lambda: (
            behind(layers.Identity())
            and keras.Model(
                frames := keras.Input((6, 4)),
                layers.GRU(3)(layers.LayerNormalization(axis=1, name="over_time")(frames)),
            )
        ),
        r"layer 'over_time' \(LayerNormalization\) .* axis",
    ),
    "joined": (joined_with_the_last, r"layer 'joined' \(Add\) .* last frame"),
    "operation": (with_operation, r"outside any layer"),
    "no state": (
        lambda: keras.Sequential([keras.Input((None, 4)), layers.Dense(2)]),
        "has no recurrent layer",
    ),
    "unknown layer": (
        lambda: around(layers.ZeroPadding1D(1, name="longer")),
        r"layer 'longer' \(ZeroPadding1D\) .* not known",
    ),
    "half precision": (
        lambda: around(layers.Dense(3, dtype="float16", name="half")),
        r"layer 'half' \(Dense\) .* float16",
    ),
    "flat input": (
        lambda: keras.Sequential([keras.Input((4,)), layers.Dense(2)]),
        r"got the input float32 \[None, 4\]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_streamed_is_named(case: str) -> None:
    build, sentence = REFUSED[case]

    with pytest.raises(UnstreamableError, match=sentence):
        plan.read(build())


def test_a_model_with_a_call_of_its_own_is_refused() -> None:
    class Own(keras.Model):  # type: ignore[misc]  # Keras comes without types
        def call(self, frames: Any) -> Any:
            return frames

    with pytest.raises(UnstreamableError, match="neither Sequential nor functional"):
        plan.read(Own())


def test_code_in_a_model_file_is_named_and_not_run(tmp_path: pathlib.Path) -> None:
    model = around(layers.Lambda(lambda value: value * 2, name="code"))
    model.save(tmp_path / "model.keras")

    with pytest.raises(ModelFileError, match=r"model\.keras: layer 'code' \(Lambda\) is code"):
        archive.load(tmp_path / "model.keras")


def test_a_file_that_is_no_model_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"no zip file")

    with pytest.raises(ModelFileError, match=r"model\.keras: cannot be loaded"):
        archive.load(tmp_path / "model.keras")


def test_reading_a_model_leaves_it_as_it_was() -> None:
    model = around(layers.Dense(3))
    before = model.to_json()

    plan.read(model)

    assert model.to_json() == before

"""What people build comes out of an export and streams, or is refused in one sentence."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest

from architectures import REFUSED, STREAMED
from tickcell.cli import server_process
from tickcell.client import Session
from tickcell.model.bundle import Bundle
from tickcell.model.keras import agreement, export, graph, plan, sequence
from tickcell.model.keras import frames as frames_of
from tickcell.model.keras.description import Description, sensors_of
from tickcell.model.keras.plan import UnstreamableError

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning",
    # Keras says so of a convolution behind Masking; that is what is meant.
    "ignore:Layer .* was passed an input with a mask attached to it:UserWarning",
)

_STEPS = 1000


def built(name: str) -> Any:
    keras.utils.set_random_seed(3)
    return STREAMED[name]()


def exported(model: Any, name: str) -> Bundle:
    read = plan.read(graph.as_float32(model))
    described = Description(name, "1", sensors_of(read), 50.0)
    return export.export(model, described, random_step_count=200)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_streamed_is_one_sentence(name: str) -> None:
    build, sentence = REFUSED[name]

    with pytest.raises(UnstreamableError, match=sentence) as refused:
        plan.read(graph.as_float32(build()))

    said = str(refused.value)
    assert said.endswith(".")
    assert "\n" not in said
    assert ";" in said, "the way out"


# One of each kind, so that one export has them all.
SIDE_BY_SIDE = (
    "Conv1D valid twice, last",
    "GlobalMaxPooling1D",
    "MaxPooling1D, strides=1",
    "Reshape in a frame",
    "SeparableConv1D",
    "TCN, mean",
    "masking by -1, last",
    "norm of three",
    "number times output",
    "return_state used",
    "split and gate",
    "subclassed",
)


@pytest.fixture(scope="module")
def side_by_side() -> tuple[Any, Bundle]:
    sequence = keras.Input((40, 6))
    heads = {name: built(name)(sequence) for name in SIDE_BY_SIDE}
    model = keras.Model(sequence, heads)
    return model, exported(model, "model")


def test_kinds_of_layers_side_by_side_stream_what_keras_computes(
    side_by_side: tuple[Any, Bundle],
) -> None:
    model, bundle = side_by_side
    read = plan.read(model)
    frames = frames_of.random(read, np.random.default_rng(5), bundle.golden.frames, _STEPS)
    expected = sequence.outputs(read, frames)

    streamed = agreement.stream(bundle.cell(), frames)

    column = 0
    for head in bundle.interface.heads:
        columns = slice(column, column + head.size)
        column += head.size
        measured = agreement.compare(streamed[..., columns], expected[..., columns])
        assert measured.is_close, (head.name, measured)
        assert np.nanstd(expected[..., columns], axis=1).max() >= 1e-3, head.name
    assert [head.name for head in bundle.interface.heads] == sorted(
        head.name for head in read.heads
    )
    assert bundle.card.warm_up_steps >= read.lag == 5


def test_each_state_matters(side_by_side: tuple[Any, Bundle]) -> None:
    """Planted as it was before the first frame, each changes what comes out."""
    _, bundle = side_by_side
    cell, frames = bundle.cell(), bundle.golden.frames[:120].copy()
    frames[4::5] = -1.0  # Masked, which is when a last output is given again.
    expected = agreement.stream(cell, frames[np.newaxis])[0]
    start = cell.initial_state()
    first = 0
    for tensor in bundle.interface.state_tensors:
        columns = slice(first, first + tensor.size)
        first += tensor.size
        state, delta = start, 0.0
        for step, frame in enumerate(frames):
            output, state = cell.step(frame[np.newaxis], state)
            state = state.copy()
            state[:, columns] = start[:, columns]
            delta = max(delta, float(np.abs(output[0] - expected[step]).max()))
        # What an addition rounded away is small, and matters after hours only.
        assert delta >= 1e-3 or tensor.name.endswith("_rest"), tensor.name


def test_reading_a_model_leaves_it_as_it_was() -> None:
    model = built("Conv1D causal, LSTM")
    before = model.to_json()

    plan.read(model)

    assert model.to_json() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", STREAMED)
def test_each_is_served_as_keras_computes_it(name: str, tmp_path: pathlib.Path) -> None:
    model = built(name)
    bundle = exported(model, "model")
    bundle.write(tmp_path / "bundle")
    read = plan.read(graph.as_float32(model))
    frames = frames_of.random(read, np.random.default_rng(5), bundle.golden.frames, _STEPS)
    expected = sequence.outputs(read, frames)

    with (
        server_process.temporary("--bundle", str(tmp_path / "bundle")) as server,
        Session.create(server.address, series_count=len(frames)) as session,
    ):
        streamed = np.stack(list(session.stream(frames.swapaxes(0, 1)))).swapaxes(0, 1)

    measured = agreement.compare(streamed, expected)
    deviation = float(np.nanstd(expected, axis=1).max())
    print(f"{name}: max |delta| {measured.max_delta:.2g}, deviation {deviation:.2g}")
    assert measured.is_close, measured
    assert deviation >= 1e-3, "what does not move agrees with anything"

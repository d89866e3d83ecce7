"""What people build comes out of an export and streams, or is refused in one sentence."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest

import streaming_proof
from architectures import REFUSED, STREAMED, UNREAD
from tickcell.cli import server_process
from tickcell.client import Session
from tickcell.model import agreement
from tickcell.model.bundle import Bundle
from tickcell.model.keras import archive, export, graph, plan, sequence
from tickcell.model.keras import frames as frames_of
from tickcell.model.keras.description import Description, sensors_of
from tickcell.model.keras.plan import UnstreamableError

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning",
    # Keras says so of a convolution behind Masking; that is what is meant.
    "ignore:Layer .* was passed an input with a mask attached to it:UserWarning",
    "ignore:You are saving a model that has not yet been built:UserWarning",
)

_STEPS = 1000


@pytest.fixture
def model_file(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "model.keras"


def built(name: str) -> Any:
    keras.utils.set_random_seed(3)
    return STREAMED[name]()


def from_file(model: Any, path: pathlib.Path) -> Any:
    """A model as an export gets it; a file says some things in another way."""
    model.save(path)
    return archive.load(path)


def exported(model: Any, name: str) -> Bundle:
    read = plan.read(graph.as_float32(model))
    described = Description(name, "1", sensors_of(read), 50.0)
    return export.export(model, described, random_step_count=200)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_streamed_is_one_sentence(name: str, model_file: pathlib.Path) -> None:
    build, sentence = REFUSED[name]
    model = from_file(build(), model_file)

    with pytest.raises(UnstreamableError, match=sentence) as refused:
        plan.read(graph.as_float32(model))

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
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Bundle]:
    sequence = keras.Input((40, 6))
    heads = {name: built(name)(sequence) for name in SIDE_BY_SIDE}
    path = tmp_path_factory.mktemp("models") / "model.keras"
    model = from_file(keras.Model(sequence, heads), path)
    return model, exported(model, "model")


def test_kinds_of_layers_side_by_side_stream_what_keras_computes(
    side_by_side: tuple[Any, Bundle],
) -> None:
    model, bundle = side_by_side
    read = plan.read(model)
    frames = frames_of.random(read, np.random.default_rng(5), bundle.golden.frames, _STEPS // 4)
    expected = sequence.outputs(read, frames)

    streamed = agreement.stream(bundle.cell(), frames)

    column = 0
    for head in bundle.interface.heads:
        columns = slice(column, column + head.size)
        column += head.size
        measured = agreement.compare(streamed[..., columns], expected[..., columns])
        assert measured.is_close, (head.name, measured)
    streaming_proof.assert_moves(expected, bundle.interface.output_names)
    streaming_proof.assert_remembers(bundle.cell(), frames, streaming_proof.oldest(read))
    assert [head.name for head in bundle.interface.heads] == sorted(
        head.name for head in read.heads
    )
    assert bundle.card.warm_up_steps >= read.lag == 5


def test_each_state_matters(side_by_side: tuple[Any, Bundle]) -> None:
    """Without any one of them, the comparison above fails."""
    model, bundle = side_by_side
    frames = bundle.golden.frames[np.newaxis, :120].copy()
    frames[:, 4::5] = -1.0  # Masked, which is when a last output is given again.
    expected = sequence.outputs(plan.read(model), frames)

    streaming_proof.assert_each_state_matters(bundle.cell(), frames, expected)


def test_reading_a_model_leaves_it_as_it_was() -> None:
    model = built("Conv1D causal, LSTM")
    before = model.to_json()

    plan.read(model)

    assert model.to_json() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", STREAMED)
def test_each_is_served_as_keras_computes_it(
    name: str, model_file: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    model = from_file(built(name), model_file)
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
    assert measured.is_close, measured
    deviation = streaming_proof.assert_moves(expected, bundle.interface.output_names)
    age = streaming_proof.oldest(read)
    streaming_proof.assert_remembers(bundle.cell(), frames, age)
    unread = UNREAD.get(name, "")
    streaming_proof.assert_each_state_matters(bundle.cell(), frames, expected, unread)
    print(
        f"{name}: max |delta| {measured.max_delta:.2g}, deviation {deviation:.2g}, "
        f"the oldest frame {age} steps ago"
    )

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
    described = Description(name, "1", sensors_of(read), 50.0, "A test.")
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


@pytest.mark.slow
@pytest.mark.parametrize("name", STREAMED)
def test_each_is_served_as_keras_computes_it(name: str, tmp_path: pathlib.Path) -> None:
    model = built(name)
    bundle = exported(model, "model")
    bundle.write(tmp_path / "bundle")
    read = plan.read(graph.as_float32(model))
    frames = frames_of.random(read, np.random.default_rng(5), bundle.golden.frames, _STEPS)
    expected = sequence.outputs(read, frames)

    with server_process.temporary("--bundle", str(tmp_path / "bundle")) as server:
        with Session.create(server.address, series_count=len(frames)) as session:
            streamed = np.stack(list(session.stream(frames.swapaxes(0, 1)))).swapaxes(0, 1)

    measured = agreement.compare(streamed, expected)
    deviation = float(np.nanstd(expected, axis=1).max())
    print(f"{name}: max |delta| {measured.max_delta:.2g}, deviation {deviation:.2g}")
    assert measured.is_close, measured
    assert deviation >= 1e-3, "what does not move agrees with anything"

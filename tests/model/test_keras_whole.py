"""Models of whole numbers: their sensors are whole, and nothing is cut in silence."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from tickcell.model import agreement
from tickcell.model.bundle import Bundle
from tickcell.model.interface import InterfaceError, Sensor
from tickcell.model.keras import evaluation, export, graph, plan, whole
from tickcell.model.keras.description import Description, sensors_of
from tickcell.model.keras.plan import UnstreamableError
from tickcell.model.keras.scores import ScoreError
from tickcell.model.ranges import ReadingError
from tickcell.model.recording import Recording

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

WORDS, PLACES = 12, 5


def words(step_count: int | None, dtype: str, **keywords: Any) -> Any:
    """A sequence of words, one at a time: what language models take."""
    sequence = keras.Input((step_count,), dtype=dtype)
    embedded = layers.Embedding(WORDS, 4, **keywords)(sequence)
    return keras.Model(sequence, layers.Dense(2)(layers.GRU(6)(embedded)))


def mixed() -> Any:
    """Readings of which two are looked up, and an input of counts."""
    readings, counts = keras.Input((None, 4)), keras.Input((None, 2), dtype="uint8")
    word = layers.Embedding(WORDS, 3)(readings[:, :, 1])
    place = layers.Embedding(PLACES, 2)(readings[:, :, 3])
    numbers = keras.ops.cast(counts, "float32") / 255.0
    joined = layers.Concatenate()([word, place, readings[:, :, 0:1], numbers])
    return keras.Model([readings, counts], layers.LSTM(5, return_sequences=True)(joined))


MODELS: dict[str, Callable[[], Any]] = {
    "words": lambda: words(None, "int32"),
    "words of one length": lambda: words(30, "int32"),
    "words as floats": lambda: words(None, "float32"),
    "words, 0 masked": lambda: words(None, "int32", mask_zero=True),
    "two columns and counts": mixed,
}


def exported(name: str) -> tuple[Any, Bundle]:
    keras.utils.set_random_seed(5)
    model = MODELS[name]()
    read = plan.read(graph.as_float32(model))
    description = Description("words", "1", sensors_of(read), 10.0)
    return model, export.export(model, description, random_step_count=200)


@pytest.fixture(scope="module")
def of_words() -> Bundle:
    return exported("words")[1]


@pytest.mark.parametrize("name", MODELS)
def test_whole_readings_stream_what_keras_computes(name: str) -> None:
    model, bundle = exported(name)
    frames = bundle.golden.frames[:30]
    rows = [frames] if len(model.inputs) == 1 else [frames[:, :4], frames[:, 4:]]
    inputs = [
        row.reshape(1, *(size or 30 for size in each.shape[1:])).astype(each.dtype)
        for row, each in zip(rows, model.inputs, strict=True)
    ]

    streamed = agreement.stream(bundle.cell(), frames[np.newaxis])

    expected = np.asarray(model(inputs if len(inputs) > 1 else inputs[0]))
    last = expected if expected.ndim == 2 else expected[:, -1]
    assert np.abs(streamed[:, -1] - last).max() <= 1e-5
    assert streamed.std(axis=1).max() >= 1e-3
    assert len(np.unique(frames[:, 0])) > 1


def test_sensors_are_whole_within_what_the_model_knows() -> None:
    _, bundle = exported("two columns and counts")

    shown = [(each.whole, each.min_reading, each.max_reading) for each in bundle.interface.sensors]

    anything = (False, -3.4028234e38, 3.4028234e38)
    assert shown == [anything, (True, 0, 11), anything, (True, 0, 4), *[(True, 0, 255)] * 2]


def test_a_whole_number_beyond_what_float32_counts_is_out_of_range() -> None:
    read = plan.read(
        keras.Sequential(
            [keras.Input((None, 1), dtype="int64"), layers.Rescaling(0.1), layers.GRU(2)]
        )
    )

    [sensor] = whole.sensors(read, sensors_of(read))

    assert sensor == Sensor("reading_1", "", -(2**24) + 1, 2**24 - 1, whole=True)


@pytest.mark.parametrize("reading", [0.5, 11.0001, -1.0, 12.0, np.nan])
def test_the_plain_loop_refuses_what_the_graph_would_cut(of_words: Bundle, reading: float) -> None:
    cell = of_words.cell()

    with pytest.raises(ReadingError, match="expected a whole number from 0 to 11"):
        cell.step(np.array([reading], np.float32), cell.initial_state())


def test_a_recording_with_a_fraction_is_one_sentence(of_words: Bundle) -> None:
    frames = np.array([[1.0], [2.0], [2.5], [3.0]], np.float32)
    recorded = Recording(
        frames, np.arange(4) / 10, np.zeros(4, np.float32), ("reading_1",), name="a"
    )

    with pytest.raises(ScoreError, match=r"a: at 0.2 s: reading_1: got 2.5, expected a whole"):
        list(evaluation.stream(of_words.cell(), recorded.reader()))


def test_a_golden_with_a_fraction_is_one_sentence() -> None:
    model = MODELS["words"]()
    read = plan.read(model)
    golden = np.array([[1.0], [12.0], [3.0]], np.float32)

    with pytest.raises(agreement.AgreementError, match=r"golden, step 1: reading_1: got 12, exp"):
        export.export(model, Description("words", "1", sensors_of(read), 10.0), golden)


def test_a_range_wider_than_the_vocabulary_is_refused() -> None:
    read = plan.read(MODELS["words"]())

    assert whole.sensors(read, [Sensor("word", "", 1, 11)]) == (Sensor("word", "", 1, 11, True),)
    with pytest.raises(InterfaceError, match="got the range 0 to 12, expected one within 0 to 11"):
        whole.sensors(read, [Sensor("word", "", 0, 12)])


def test_what_looks_up_computed_numbers_is_refused() -> None:
    readings = keras.Input((None, 3))
    looked_up = layers.Embedding(9, 2)(keras.ops.argmax(readings, axis=-1))

    with pytest.raises(UnstreamableError, match=r"\(Embedding\) cannot be streamed: it looks up"):
        plan.read(keras.Model(readings, layers.GRU(2)(looked_up)))


def test_a_bundle_of_whole_readings_is_read_again(of_words: Bundle, tmp_path: pathlib.Path) -> None:
    of_words.write(tmp_path / "bundle")

    assert Bundle.load(tmp_path / "bundle").interface == of_words.interface

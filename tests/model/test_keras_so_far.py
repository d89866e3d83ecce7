"""The mean, maximum and minimum of all frames so far: after hours as at first."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from tickcell.model import agreement
from tickcell.model.bundle import Bundle
from tickcell.model.interface import unnamed_sensors
from tickcell.model.keras import export, plan
from tickcell.model.keras.description import Description
from tickcell.model.keras.rules.so_far import MeanSoFar

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

SENSORS = 3


@pytest.fixture(scope="module")
def model() -> Any:
    frames = keras.Input((None, SENSORS))
    mean = layers.GlobalAveragePooling1D(name="mean")(frames)
    most = layers.GlobalMaxPooling1D(name="most")(frames)
    return keras.Model(frames, {"mean": mean, "most": most, "least": ops.min(frames, axis=1)})


@pytest.fixture(scope="module")
def bundle(model: Any) -> Bundle:
    described = Description("so-far", "1", unnamed_sensors(SENSORS), 50.0)
    return export.export(model, described, random_step_count=200)


@pytest.mark.parametrize("middle", [-50.0, 50.0])
def test_extremes_do_not_begin_at_zero(bundle: Bundle, middle: float) -> None:
    frames = np.random.default_rng(0).normal(middle, 2.0, (100, SENSORS)).astype(np.float32)

    outputs = agreement.stream(bundle.cell(), frames[np.newaxis])[0]

    assert [head.name for head in bundle.interface.heads] == ["least", "mean", "most"]
    least, most = outputs[:, :SENSORS], outputs[:, 2 * SENSORS :]
    assert least.tobytes() == np.minimum.accumulate(frames).tobytes()
    assert most.tobytes() == np.maximum.accumulate(frames).tobytes()


@pytest.mark.parametrize("count", [0, 2**20 - 3, 2**24 - 3, 2**24 + 1, 2**25 - 3, 2**30])
def test_the_mean_counts_on_where_float32_does_not(bundle: Bundle, count: int) -> None:
    """From a state as it is after so many frames; 2^24 + 1 is no float32."""
    cell = bundle.cell()
    before = np.array([0.5, -3.0, 8.0], np.float32)
    # So large that each moves the mean by more than its last bit.
    frames = np.random.default_rng(1).normal(4e4, 1e4, (500, SENSORS)).astype(np.float32)
    state = cell.initial_state()
    start = 0
    for tensor in bundle.interface.state_tensors:
        columns = slice(start, start + tensor.size)
        start += tensor.size
        if tensor.name == "mean_mean":
            state[:, columns] = before if count else 0.0
        if tensor.name == "mean_count":
            state[:, columns] = (count % 2**20, count // 2**20)
    total = count * before.astype(np.float64)
    for number, frame in enumerate(frames, count + 1):
        outputs, state = cell.step(frame[np.newaxis], state)
        total += frame
        expected = total / number
        tolerance = agreement.TOLERANCE * max(1.0, float(np.abs(expected).max()))
        assert np.abs(outputs[0, SENSORS : 2 * SENSORS] - expected).max() <= tolerance, number
    moved = np.abs(expected - before).min()
    assert moved >= 1e-3 or count == 2**30


@pytest.mark.slow
@pytest.mark.parametrize("keeps_rest", [True, False])
def test_the_mean_is_right_over_2_to_the_25_frames(model: Any, keeps_rest: bool) -> None:
    """Every one of them is added, by the rule's own update, and float64 says what is right.

    Without what each addition rounded away, it is not: the proof can fail.
    """
    (rule,) = (rule for rule in plan.read(model).rules if isinstance(rule, MeanSoFar))
    names = list(rule.initial_states)

    def all_of(frames: Any, states: Any) -> Any:
        def advance(index: Any, *states: Any) -> Any:
            following = rule.advance(frames[index][None], dict(zip(names, states, strict=True)))
            if not keeps_rest:
                following["mean_rest"] = ops.zeros_like(following["mean_rest"])
            return (index + 1, *(following[name] for name in names))

        count = tf.shape(frames)[0]
        return tf.while_loop(lambda index, *_: index < count, advance, (0, *states))[1:]

    advanced = tf.function(all_of, jit_compile=True, autograph=False)
    generator = np.random.default_rng(0)
    states = [tf.constant(start[None]) for start in rule.initial_states.values()]
    total, worst = np.zeros(SENSORS), 0.0
    middles, deviations = np.array([9.81, 0.0, -40.0]), np.array([2.0, 1.0, 0.01])
    size = 2**20
    for number in range(1, 33):
        drawn = generator.standard_normal((size, SENSORS), np.float32)
        frames = (middles + deviations * drawn).astype(np.float32)
        states = advanced(tf.constant(frames), states)
        total += frames.sum(axis=0, dtype=np.float64)
        mean = np.asarray(rule.output(dict(zip(names, states, strict=True))))[0]
        worst = max(worst, float(np.abs(mean - total / (number * size)).max()))

    print(f"rest {'kept' if keeps_rest else 'dropped'}: max |delta| {worst:.2g}")
    assert (worst <= agreement.TOLERANCE) == keeps_rest

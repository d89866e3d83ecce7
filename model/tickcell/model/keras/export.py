"""A trained Keras model as a bundle, behind gates.

A bundle is made only if its step, streamed, gives the outputs of the Keras model over
whole sequences. Four ways of computing them are compared in a row: the model as it was
trained, its layers over any length, its layers one frame at a time, and the LiteRT graph.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tickcell.model import probe
from tickcell.model.bundle import Bundle, Card, Golden, fingerprint
from tickcell.model.cell import LiteRTCell
from tickcell.model.interface import Interface
from tickcell.model.keras import agreement, conversion, sequence
from tickcell.model.keras.agreement import TOLERANCE, Agreement, AgreementError
from tickcell.model.keras.step import Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.model.keras.description import Description

RANDOM_STEP_COUNT = 10_000

_SERIES_COUNT = 4
_AS_TRAINED_STEP_COUNT = 50
_KERAS_STEP_COUNT = 200
_PUSHED_STEP_COUNT = 1000

# A push that has grown a hundredfold after so many steps is not forgotten.
_AMPLIFIES = 100.0


def export(
    model: Any,
    description: Description,
    golden_frames: NDArray[np.float32] | None = None,
    golden_labels: NDArray[np.float32] | None = None,
    *,
    random_step_count: int = RANDOM_STEP_COUNT,
) -> Bundle:
    """Makes a bundle of a model, and checks it.

    Args:
      model: Sequential or functional, as `archive.load` gives it.
      description: its sensors, and what else goes into interface and card.
      golden_frames: `[T, F]`, a plausible recording in the sensors' own units; random
        frames without it.
      golden_labels: `[T]`, where the recording has labels.
      random_step_count: over how many random frames it is checked too, 200 or more.

    Raises:
      UnstreamableError: the model has a layer that cannot be streamed.
      ConversionError: the graph is not sound.
      AgreementError: the step does not give the outputs of the model.
    """
    step = Step(model)
    if len(description.sensors) != step.plan.sensor_count:
        raise AgreementError(
            f"{model.name}: takes {step.plan.sensor_count} readings, and the description names "
            f"{len(description.sensors)} sensors; name them with --sensors."
        )
    generator = np.random.default_rng(0)
    if golden_frames is None:
        golden_frames = generator.standard_normal((1000, step.plan.sensor_count), np.float32)
    golden_frames = np.ascontiguousarray(golden_frames, np.float32)
    frames = _random_frames(generator, golden_frames, random_step_count)
    expected = sequence.outputs(model, frames)
    _check_as_trained(step, frames, expected)
    _check_keras_step(step, frames, expected)

    graph = conversion.convert(step)
    interface = Interface(
        description.sensors, step.state_tensors, _output_names(step, description)
    )
    probed = probe.frames(fingerprint(graph, interface.to_json()), interface)
    cell = LiteRTCell(graph, interface, probed)
    golden_outputs = sequence.outputs(model, golden_frames[np.newaxis])
    measured = {
        "random_frames": agreement.compare(agreement.stream(cell, frames), expected),
        "golden_frames": agreement.compare(
            agreement.stream(cell, golden_frames[np.newaxis]), golden_outputs
        ),
    }
    growth = agreement.amplification(cell, frames[:, :_PUSHED_STEP_COUNT])
    for name, on_frames in measured.items():
        _check_graph(model, name.replace("_", " "), on_frames, growth)
    card = _card(description, measured, growth, cell, golden_frames)
    return Bundle(interface, card, graph, Golden(golden_frames, golden_outputs[0], golden_labels))


def _card(
    description: Description,
    measured: dict[str, Agreement],
    growth: float,
    cell: LiteRTCell,
    golden_frames: NDArray[np.float32],
) -> Card:
    """Joins what a person says of the model with what was measured."""
    keras_agreement = {
        **{name: dataclasses.asdict(on_frames) for name, on_frames in measured.items()},
        "push_after_1000_steps": growth,
        "amplifies": growth > _AMPLIFIES,
    }
    return Card(
        name=description.name,
        version=description.version,
        rate_hz=description.rate_hz,
        output_meaning=description.output_meaning,
        threshold=description.threshold,
        warm_up_steps=agreement.forgetting_steps(cell, golden_frames),
        keras_max_delta=max(on_frames.max_delta for on_frames in measured.values()),
        keras_max_delta_steps=max(on_frames.step_count for on_frames in measured.values()),
        training=description.training,
        metrics={
            **description.metrics,
            "keras_agreement": keras_agreement,
            "batch_shapes": list(cell.batch_shapes),
        },
        kind=description.kind,
        classes=description.classes,
        unit=description.unit,
    )


def _random_frames(
    generator: np.random.Generator, golden_frames: NDArray[np.float32], step_count: int
) -> NDArray[np.float32]:
    """Returns `[B, T, F]` on the golden's own scale: elsewhere a model may be saturated."""
    shape = (_SERIES_COUNT, step_count, golden_frames.shape[1])
    frames = generator.standard_normal(shape, np.float32)
    scaled = frames * golden_frames.std(axis=0) + golden_frames.mean(axis=0)
    return np.asarray(scaled, np.float32)


def _output_names(step: Step, description: Description) -> tuple[str, ...]:
    name, count = description.output_name, step.plan.output_count
    if count == 1:
        return (name,)
    if len(description.classes) == count:
        return tuple(description.classes)
    return tuple(f"{name}_{number}" for number in range(1, count + 1))


def _check_as_trained(
    step: Step, frames: NDArray[np.float32], expected: NDArray[np.float32]
) -> None:
    """Compares the model, called as it was trained, with its layers over any length."""
    plan = step.plan
    series_count = plan.series_count or len(frames)
    step_count = plan.step_count or _AS_TRAINED_STEP_COUNT
    rows = np.resize(frames, (series_count, *frames.shape[1:]))[:, :step_count]
    for call in plan.calls:
        if call.is_recurrent and call.layer.stateful:
            call.layer.reset_state()
    outputs = np.asarray(step.model(tf.constant(rows), training=False))
    if not plan.gives_each_step:
        outputs = outputs[:, np.newaxis]
    compared = np.resize(expected, (series_count, *expected.shape[1:]))
    compared = compared[:, step_count - outputs.shape[1] : step_count]
    _require_close(step.model, "its layers over the whole sequence", outputs, compared)


def _check_keras_step(
    step: Step, frames: NDArray[np.float32], expected: NDArray[np.float32]
) -> None:
    """Compares the model's layers one frame at a time with whole sequences."""
    run = tf.function(step, autograph=False)
    states = step.initial_states(len(frames))
    outputs = []
    for index in range(_KERAS_STEP_COUNT):
        output, states = run(tf.constant(frames[:, index]), states)
        outputs.append(np.asarray(output))
    _require_close(
        step.model,
        "its layers one frame at a time",
        np.stack(outputs, axis=1),
        expected[:, :_KERAS_STEP_COUNT],
    )


def _require_close(
    model: Any, name: str, got: NDArray[np.float32], expected: NDArray[np.float32]
) -> None:
    measured = agreement.compare(got, expected)
    if not measured.is_close:
        raise AgreementError(
            f"{model.name}: {name} and the model as it was trained differ by "
            f"{measured.max_delta:.2g} at step {measured.at_step}, expected at most {TOLERANCE:g}."
        )


def _check_graph(model: Any, name: str, measured: Agreement, growth: float) -> None:
    """Refuses a graph that is wrong, not one whose recurrence amplifies its last bits."""
    within = measured.growth[min(measured.growth, key=int)]
    amplified = growth > _AMPLIFIES and within <= TOLERANCE
    if not measured.is_close and not amplified:
        raise AgreementError(
            f"{model.name}: the LiteRT graph differs from Keras on {name} by "
            f"{measured.max_delta:.2g} at step {measured.at_step}, expected at most {TOLERANCE:g}."
        )

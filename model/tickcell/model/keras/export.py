"""A trained Keras model as a bundle, behind gates.

A bundle is made only if its step, streamed, gives the outputs of the Keras model over
whole sequences. Four ways of computing them are compared in a row: the model as it was
trained, its layers over any length, its layers one frame at a time, and the LiteRT graph.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model import probe
from tickcell.model.bundle import Bundle, Card, Golden, fingerprint
from tickcell.model.cell import LiteRTCell
from tickcell.model.interface import Interface
from tickcell.model.keras import agreement, checks, conversion, graph, heads
from tickcell.model.keras import frames as frames_of
from tickcell.model.keras.agreement import Agreement, AgreementError
from tickcell.model.keras.step import Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.model.keras.description import Description

RANDOM_STEP_COUNT = 10_000

_PUSHED_STEP_COUNT = 1000
_GOLDEN_STEP_COUNT = 1000


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
    rebuilt = graph.as_float32(model)
    step = Step(rebuilt)
    if len(description.sensors) != step.plan.sensor_count:
        raise AgreementError(
            f"{model.name}: takes {step.plan.sensor_count} readings, and the description names "
            f"{len(description.sensors)} sensors; name them with --sensors."
        )
    # A model of sequences of one length is called on one as it was trained.
    random_step_count = max(random_step_count, step.plan.step_count or 0)
    generator = np.random.default_rng(0)
    if golden_frames is None:
        golden_frames = frames_of.standard(step.plan, generator, _GOLDEN_STEP_COUNT)
    golden_frames = np.ascontiguousarray(golden_frames, np.float32)
    frames = frames_of.random(step.plan, generator, golden_frames, random_step_count)
    expected = checks.expected(step, frames, "random frames")
    golden_outputs = checks.expected(step, golden_frames[np.newaxis], "golden frames")
    checks.check_as_trained(step, frames, expected)
    checks.check_keras_step(step, frames, expected)

    step_graph = conversion.convert(step)
    mask_value = step.plan.mask_value if len(step.plan.inputs) == 1 else None
    interface = Interface(
        description.sensors, step.state_tensors, heads.of(step.plan, description), mask_value
    )
    probed = probe.frames(fingerprint(step_graph, interface.to_json()), interface)
    cell = LiteRTCell(step_graph, interface, probed)
    streamed = agreement.stream(cell, golden_frames[np.newaxis])
    measured = {
        "random_frames": agreement.compare(agreement.stream(cell, frames), expected),
        "golden_frames": agreement.compare(streamed, golden_outputs),
    }
    growth = agreement.amplification(cell, frames[:, :_PUSHED_STEP_COUNT])
    for name, on_frames in measured.items():
        checks.check_graph(model, name.replace("_", " "), on_frames, growth)
    card = _card(description, measured, growth, cell, golden_frames, step.plan.lag)
    if rebuilt is not model:
        delta = checks.delta_in_own_precision(model, step, frames, expected)
        card = dataclasses.replace(card, metrics={**card.metrics, "delta_to_own_precision": delta})
    # Before the model's first output there is the cell's.
    golden_outputs = np.where(np.isnan(golden_outputs), streamed, golden_outputs)
    golden = Golden(golden_frames, golden_outputs[0], golden_labels)
    return Bundle(interface, card, step_graph, golden)


def _card(
    description: Description,
    measured: dict[str, Agreement],
    growth: float,
    cell: LiteRTCell,
    golden_frames: NDArray[np.float32],
    lag: int,
) -> Card:
    """Joins what a person says of the model with what was measured."""
    keras_agreement = {
        **{name: dataclasses.asdict(on_frames) for name, on_frames in measured.items()},
        "push_after_1000_steps": growth,
        "amplifies": growth > checks.AMPLIFIES,
    }
    return Card(
        name=description.name,
        version=description.version,
        rate_hz=description.rate_hz,
        output_meaning=description.output_meaning,
        threshold=description.threshold,
        warm_up_steps=max(lag, agreement.forgetting_steps(cell, golden_frames)),
        keras_max_delta=max(on_frames.max_delta for on_frames in measured.values()),
        keras_max_delta_steps=max(on_frames.step_count for on_frames in measured.values()),
        training=description.training,
        metrics={
            **description.metrics,
            "keras_agreement": keras_agreement,
            "batch_shapes": list(cell.batch_shapes),
        },
        kind=cell.interface.heads[0].kind,
        classes=description.classes,
        unit=description.unit,
    )

"""A trained Keras model as a bundle, behind gates.

A bundle is made only if its step, streamed, gives the outputs of the Keras model over
whole sequences. Four ways of computing them are compared in a row: the model as it was
trained, its layers over any length, its layers one frame at a time, and the LiteRT graph.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model import agreement, outputs, steps_graph
from tickcell.model.agreement import AgreementError
from tickcell.model.bundle import Bundle, Card, Golden, cell_of, fingerprint
from tickcell.model.interface import Interface
from tickcell.model.keras import checks, conversion, graph, heads, whole
from tickcell.model.keras import frames as frames_of
from tickcell.model.keras.step import Step
from tickcell.model.ranges import Ranges, ReadingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.model.card import Output
    from tickcell.model.cell import LiteRTCell
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
      InterfaceError: the model has other sensors or outputs than are described.
      ConversionError: the graph is not sound.
      AgreementError: the step does not give the outputs of the model, or the golden has
        frames that the model does not take.
    """
    rebuilt = graph.as_float32(model)
    step = Step(rebuilt)
    sensors = whole.sensors(step.plan, description.sensors)
    own_heads, said = outputs.described(description.outputs, heads.of(step.plan), model.name)
    mask_value = step.plan.mask_value if len(step.plan.inputs) == 1 else None
    interface = Interface(sensors, step.state_tensors, own_heads, mask_value)

    # A model of sequences of one length is called on one as it was trained.
    random_step_count = max(random_step_count, step.plan.step_count or 0)
    generator = np.random.default_rng(0)
    golden_frames = _golden_frames(step, interface, golden_frames, generator)
    frames = frames_of.random(step.plan, generator, golden_frames, random_step_count)
    expected = checks.expected(step, frames, "random frames")
    golden_outputs = checks.expected(step, golden_frames[np.newaxis], "golden frames")
    checks.check_as_trained(step, frames, expected)
    checks.check_keras_step(step, frames, expected)

    step_graph = conversion.convert(step)
    cell = cell_of(step_graph, interface)
    identity = fingerprint(step_graph, interface.to_json())
    several = steps_graph.choose(step_graph, interface, identity)
    streamed = agreement.stream(cell, golden_frames[np.newaxis])
    measured = _measured(model, cell, (frames, expected), (streamed, golden_outputs))
    measured["steps_in_a_call"] = several.summary
    if rebuilt is not model:
        delta = checks.delta_in_own_precision(model, step, frames, expected)
        measured["delta_to_own_precision"] = delta
    warm_up = max(step.plan.lag, agreement.forgetting_steps(cell, golden_frames))
    card = _card(description, said, measured, warm_up)
    # Before the model's first output there is the cell's.
    golden_outputs = np.where(np.isnan(golden_outputs), streamed, golden_outputs)
    golden = Golden(golden_frames, golden_outputs[0], golden_labels)
    return Bundle(interface, card, step_graph, golden, steps_graph=several.graph)


def _golden_frames(
    step: Step,
    interface: Interface,
    given: NDArray[np.float32] | None,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    if given is None:
        given = frames_of.standard(step.plan, generator, _GOLDEN_STEP_COUNT)
    frames = np.ascontiguousarray(given, np.float32)
    try:
        Ranges(interface.sensors, interface.mask_value).check_whole(frames)
    except ReadingError as error:
        raise AgreementError(
            f"{step.model.name}: golden, step {error.index[0]}: {error}"
        ) from error
    return frames


_Pair = tuple["NDArray[np.float32]", "NDArray[np.float32]"]


def _measured(model: Any, cell: LiteRTCell, random: _Pair, golden: _Pair) -> dict[str, Any]:
    """Compares the graph with Keras, and returns what the card's metrics say of it.

    Args:
      model: for its name.
      cell: runs the graph.
      random: frames `[B, T, F]`, and what Keras makes of them.
      golden: what the graph and what Keras make of the golden, each `[1, T, O]`.

    Raises:
      AgreementError: the graph differs, and not because its recurrence amplifies.
    """
    frames, expected = random
    measured = {
        "random_frames": agreement.compare(agreement.stream(cell, frames), expected),
        "golden_frames": agreement.compare(*golden),
    }
    growth = agreement.amplification(cell, frames[:, :_PUSHED_STEP_COUNT])
    for name, on_frames in measured.items():
        checks.check_graph(model, name.replace("_", " "), on_frames, growth)
    keras_agreement = {
        **{name: dataclasses.asdict(on_frames) for name, on_frames in measured.items()},
        "push_after_1000_steps": growth,
        "amplifies": growth > checks.AMPLIFIES,
    }
    return {"keras_agreement": keras_agreement, "batch_shapes": list(cell.batch_shapes)}


def _card(
    description: Description, said: dict[str, Output], measured: dict[str, Any], warm_up: int
) -> Card:
    """Joins what a person says of the model with what was measured."""
    found = [measured["keras_agreement"][name] for name in ("random_frames", "golden_frames")]
    return Card(
        name=description.name,
        version=description.version,
        rate_hz=description.rate_hz,
        outputs=said,
        warm_up_steps=warm_up,
        training=description.training,
        metrics={**description.metrics, **measured},
        keras_max_delta=max(each["max_delta"] for each in found),
        keras_max_delta_steps=max(each["step_count"] for each in found),
    )

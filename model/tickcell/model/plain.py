"""A bundle of a graph of one step that was made without Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tickcell.model import agreement, packing, steps_graph, walks
from tickcell.model import outputs as outputs_of
from tickcell.model.bundle import Bundle, BundleError, Card, Golden, cell_of, fingerprint
from tickcell.model.cell import CellError
from tickcell.model.interface import Head, Interface, Sensor, unnamed_sensors
from tickcell.model.outputs import Described
from tickcell.model.ranges import Ranges, ReadingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.model.card import Output

_STEP_COUNT = 1000


def bundle(
    graph: bytes,
    wiring: packing.Wiring,
    card: Card,
    *,
    described: Sequence[Described] = (),
    sensors: Sequence[Sensor] | None = None,
    frames: NDArray[np.float32] | None = None,
    outputs: NDArray[np.float32] | None = None,
) -> Bundle:
    """Makes a bundle of a graph.

    Args:
      graph: the bytes of a `.tflite` file.
      wiring: which tensor is what.
      card: what a person should know; its outputs and what is measured are filled in.
      described: what is said of the outputs, by the names that the wiring gives them.
      sensors: of a frame; unnamed without them.
      frames: `[T, F]` float32 for the golden; random ones without them.
      outputs: `[T, O]` float32, what the model that the graph was made of gives for the
        frames; without them the golden's are the graph's own, and the card says so.

    Raises:
      BundleError: the graph does not fit what is said of it, or gives other outputs.
      InterfaceError: a sensor or an output cannot be what is said of it.
      MissingExtraError: LiteRT is not installed.
    """
    try:
        packed = packing.pack(graph, wiring)
        interface, said = _interface(packed, sensors, described, card.name)
        cell = cell_of(packed.graph, interface)
    except CellError as error:
        raise BundleError(f"{card.name}: {error}") from error
    frames = _frames(card.name, interface, frames)
    streamed = agreement.stream(cell, frames[np.newaxis])[0]
    if not np.isfinite(streamed).all():
        at = int((~np.isfinite(streamed)).any(axis=1).argmax())
        raise BundleError(f"{card.name}: the graph's output is not finite at step {at}.")
    identity = fingerprint(packed.graph, interface.to_json())
    several = steps_graph.choose(packed.graph, interface, identity)
    metrics = {
        **card.metrics,
        "batch_shapes": list(cell.batch_shapes),
        "steps_in_a_call": several.summary,
    }
    if unused := sorted({*packed.batches} - {*cell.batch_shapes}):
        metrics["unused_signatures"] = [f"step_{batch}" for batch in unused]
    if outputs is None:
        metrics["golden_outputs"] = "the graph's own"
    else:
        metrics["golden_agreement"] = _compared(card.name, streamed, outputs)
    warm_up = agreement.forgetting_steps(cell, frames)
    card = dataclasses.replace(card, outputs=said, metrics=metrics, warm_up_steps=warm_up)
    golden = Golden(frames, streamed if outputs is None else outputs)
    return Bundle(interface, card, packed.graph, golden, steps_graph=several.graph)


def _interface(
    packed: packing.Packed,
    sensors: Sequence[Sensor] | None,
    described: Sequence[Described],
    name: str,
) -> tuple[Interface, dict[str, Output]]:
    """Returns the interface, and what the card says of its outputs."""
    sensors = tuple(sensors or unnamed_sensors(packed.sensor_count))
    if len(sensors) != packed.sensor_count:
        raise CellError(
            f"graph: takes {packed.sensor_count} readings, and {len(sensors)} sensors are "
            "named; name them with --sensors."
        )
    # What an output is cannot be seen in a graph: a number, if nobody says otherwise.
    own = [Head(name, size) for name, size in packed.head_sizes.items()]
    heads, said = outputs_of.described(described, own, name)
    return Interface(sensors, packed.state_tensors, heads), said


def _frames(
    name: str, interface: Interface, frames: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Returns the golden's frames."""
    sensors = interface.sensors
    if frames is None:
        mean, deviation = walks.scale_of(sensors) or (0.0, 1.0)
        generator = np.random.default_rng(0)
        return walks.draw(sensors, mean, deviation, generator, _STEP_COUNT)
    if frames.ndim != 2 or frames.shape[1] != len(sensors) or len(frames) < 2:
        raise BundleError(
            f"{name}: got golden frames {list(frames.shape)}, expected [T, {len(sensors)}] "
            "with T of at least 2."
        )
    try:
        Ranges(sensors).check_whole(frames)
    except ReadingError as error:
        raise BundleError(f"{name}: golden, step {error.index[0]}: {error}") from error
    return frames


def _compared(
    name: str, streamed: NDArray[np.float32], outputs: NDArray[np.float32]
) -> dict[str, object]:
    if outputs.shape != streamed.shape or outputs.dtype != np.float32:
        raise BundleError(
            f"{name}: got golden outputs {outputs.dtype} {list(outputs.shape)}, expected float32 "
            f"{list(streamed.shape)}."
        )
    measured = agreement.compare(streamed[np.newaxis], outputs[np.newaxis])
    if not measured.is_close:
        raise BundleError(
            f"{name}: the graph's outputs differ from the golden's by {measured.max_delta:.2g} at "
            f"step {measured.at_step}, expected at most {measured.tolerance:.2g}; check the "
            "pairing of its states (--state NAME=INPUT:OUTPUT)."
        )
    return dataclasses.asdict(measured)

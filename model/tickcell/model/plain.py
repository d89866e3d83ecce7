"""A bundle of a graph of one step that was made without Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tickcell.model import packing, probe
from tickcell.model.bundle import Bundle, BundleError, Card, Golden, fingerprint
from tickcell.model.cell import CellError, LiteRTCell
from tickcell.model.interface import Head, Interface, Sensor
from tickcell.model.keras import agreement
from tickcell.model.keras.description import unnamed_sensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEP_COUNT = 1000


def bundle(
    graph: bytes,
    wiring: packing.Wiring,
    card: Card,
    sensors: Sequence[Sensor] | None = None,
    frames: NDArray[np.float32] | None = None,
    outputs: NDArray[np.float32] | None = None,
) -> Bundle:
    """Makes a bundle of a graph.

    Args:
      graph: the bytes of a `.tflite` file.
      wiring: which tensor is what.
      card: what a person should know; what is measured here is filled in.
      sensors: of a frame; unnamed without them.
      frames: `[T, F]` float32 for the golden; random ones without them.
      outputs: `[T, O]` float32, what the model that the graph was made of gives for the
        frames; without them the golden's are the graph's own, and the card says so.

    Raises:
      BundleError: the graph does not fit what is said of it, or gives other outputs.
      MissingExtraError: LiteRT is not installed.
    """
    try:
        packed = packing.pack(graph, wiring)
        sensors = tuple(sensors or unnamed_sensors(packed.sensor_count))
        if len(sensors) != packed.sensor_count:
            raise CellError(
                f"graph: takes {packed.sensor_count} readings, and {len(sensors)} sensors are "
                "named; name them with --sensors."
            )
        interface = Interface(sensors, packed.state_tensors, _heads(packed, card))
        probed = probe.frames(fingerprint(packed.graph, interface.to_json()), interface)
        cell = LiteRTCell(packed.graph, interface, probed)
    except CellError as error:
        raise BundleError(f"{card.name}: {error}") from error
    if frames is None:
        generator = np.random.default_rng(0)
        frames = generator.standard_normal((_STEP_COUNT, len(sensors)), np.float32)
    if frames.ndim != 2 or frames.shape[1] != len(sensors) or len(frames) < 2:
        raise BundleError(
            f"{card.name}: got golden frames {list(frames.shape)}, expected [T, {len(sensors)}] "
            "with T of at least 2."
        )
    streamed = agreement.stream(cell, frames[np.newaxis])[0]
    if not np.isfinite(streamed).all():
        at = int((~np.isfinite(streamed)).any(axis=1).argmax())
        raise BundleError(f"{card.name}: the graph's output is not finite at step {at}.")
    metrics = {**card.metrics, "batch_shapes": list(cell.batch_shapes)}
    if outputs is None:
        metrics["golden_outputs"] = "the graph's own"
    else:
        metrics["golden_agreement"] = _compared(card.name, streamed, outputs)
    warm_up = agreement.forgetting_steps(cell, frames)
    card = dataclasses.replace(card, metrics=metrics, warm_up_steps=warm_up)
    golden = Golden(frames, streamed if outputs is None else outputs)
    return Bundle(interface, card, packed.graph, golden)


def _heads(packed: packing.Packed, card: Card) -> tuple[Head, ...]:
    sizes = packed.head_sizes
    if len(sizes) == 1 and card.classes:
        ((name, size),) = sizes.items()
        return (Head(name, size, "classes", tuple(card.classes)),)
    kind = card.kind if len(sizes) == 1 else "number"
    return tuple(Head(name, size, kind) for name, size in sizes.items())


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
            f"step {measured.at_step}, expected at most {measured.tolerance:.2g}; look at the "
            "pairing of its states (--state NAME=INPUT:OUTPUT)."
        )
    return dataclasses.asdict(measured)

"""Which outputs of a bundle labels are compared with, and what the labels then must be."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from tickcell.model.card import THRESHOLD
from tickcell.model.keras.scores import ScoreError
from tickcell.model.recording.labels import Labelling, OfOutput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.model.bundle import Bundle
    from tickcell.model.interface import Head
    from tickcell.model.outputs import Described


class Part(NamedTuple):
    """What is scored by itself: one number of an output, or all of one of classes.

    Attributes:
      name: of the number, or of the output.
      columns: of the outputs that are scored.
      threshold: of a probability.
      meaning: of the output, as a sentence; empty where nobody has said it.
    """

    name: str
    columns: slice
    threshold: float | None
    meaning: str


@dataclasses.dataclass(frozen=True, slots=True)
class Scored:
    """The outputs that are scored, all by the same labels.

    Attributes:
      parts: each scored by itself.
      columns: of an output row, those of all parts side by side.
      labelling: what the labels must be.
      notes: what was assumed, as sentences.
    """

    parts: tuple[Part, ...]
    columns: tuple[int, ...]
    labelling: Labelling
    notes: tuple[str, ...] = ()


def scored(bundle: Bundle, output: str | None = None, null_class: str | None = None) -> Scored:
    """Chooses what is scored.

    Args:
      bundle: whose outputs they are.
      output: the name of one of them; without it, all, if one label can be of all.
      null_class: a label that says that there is none.

    Raises:
      ScoreError: it has no such output.
      RecordingError: it has outputs of which no label can be of all.
    """
    heads = _chosen(bundle, output)
    told = [
        OfOutput(head.name, head.kind, head.size, head.classes, bundle.card.outputs[head.name].unit)
        for head in heads
    ]
    labelling, notes = Labelling.of_outputs(bundle.card.name, told, null_class)
    columns = tuple(column for head in heads for column in bundle.interface.columns(head.name))
    return Scored(tuple(_parts(bundle, heads)), columns, labelling, notes)


def learnt(output: Described, labelling: Labelling) -> Scored:
    """Returns what is scored of a network whose one output learnt labels."""
    threshold = THRESHOLD if labelling.kind == "probability" else None
    columns = range(labelling.output_count)
    part = Part(output.name, slice(len(columns)), threshold, output.meaning)
    return Scored((part,), tuple(columns), labelling)


def _chosen(bundle: Bundle, output: str | None) -> Sequence[Head]:
    heads = bundle.interface.heads
    chosen = [head for head in heads if output in (None, head.name)]
    if not chosen:
        raise ScoreError(
            f"{bundle.card.name}: has no output {output!r}, only "
            f"{', '.join(head.name for head in heads)}."
        )
    return chosen


def _parts(bundle: Bundle, heads: Sequence[Head]) -> list[Part]:
    parts: list[Part] = []
    start = 0
    for head in heads:
        said = bundle.card.outputs[head.name]
        sizes = [head.size] if head.kind == "classes" else [1] * head.size
        names = [head.name] if head.kind == "classes" else head.output_names
        for name, size in zip(names, sizes, strict=True):
            parts.append(Part(name, slice(start, start + size), said.threshold, said.meaning))
            start += size
    return parts

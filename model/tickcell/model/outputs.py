"""What outputs are, as their owner says it: one part goes to the interface, one to the card."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tickcell.model import card
from tickcell.model.interface import Head, InterfaceError


@dataclasses.dataclass(frozen=True, slots=True)
class Described:
    """What somebody says of one output; for the fields see `Head` and `card.Output`.

    Attributes:
      kind: None where it is what the model itself makes of it.
      threshold: of a probability; None for 0.5.
    """

    name: str
    kind: str | None = None
    classes: tuple[str, ...] = ()
    unit: str = ""
    meaning: str = ""
    threshold: float | None = None

    @property
    def is_bare(self) -> bool:
        """Whether nothing is said but a name."""
        return self == Described(self.name)

    def head(self, own: Head) -> Head:
        """Returns the head, where the model itself has `own`.

        Raises:
          InterfaceError: it cannot be what is said of it.
        """
        kind = self.kind or ("classes" if self.classes else own.kind)
        return Head(self.name, own.size, kind, tuple(self.classes))

    def on_card(self, head: Head) -> card.Output:
        """Returns what the card says of it."""
        threshold = self.threshold
        if threshold is None and head.kind == "probability":
            threshold = card.THRESHOLD
        return card.Output(self.meaning, self.unit, threshold)


def described(
    said: Sequence[Described], own: Sequence[Head], model: str
) -> tuple[tuple[Head, ...], dict[str, card.Output]]:
    """Joins what a model's outputs are with what is said of them.

    What is said is of the outputs by the model's own names, in any order; or it brings other
    names, one for each output or one for each number, in their order; or there is nothing.
    Names for the numbers of classes are those of the classes; other numbers that are named
    become outputs of their own.

    Args:
      said: by the owner.
      own: as the model itself has them, without classes.
      model: what to call it.

    Returns:
      The heads, and what the card says of each.

    Raises:
      InterfaceError: it is not clear what is said of which output, or it cannot be so.
      BundleError: an output has what its kind has not.
    """
    if len(said) == sum(head.size for head in own) > len(own):
        said, own = _by_number(said, own)
    else:
        said = _by_output(said, own, model)
    heads = tuple(one.head(head) for one, head in zip(said, own, strict=True))
    return heads, {head.name: one.on_card(head) for one, head in zip(said, heads, strict=True)}


def _by_output(said: Sequence[Described], own: Sequence[Head], model: str) -> Sequence[Described]:
    """Brings what is said into the order of a model's outputs."""
    names, own_names = [one.name for one in said], [head.name for head in own]
    if not said:
        return [Described(name) for name in own_names]
    if sorted(names) == sorted(own_names):
        return sorted(said, key=lambda one: own_names.index(one.name))
    are_mixed = any(
        name in own_names and own_names.index(name) != place for place, name in enumerate(names)
    )
    if len(said) != len(own) or are_mixed:
        there = ", ".join(f"{head.name} [{head.size}]" for head in own)
        raise InterfaceError(
            f"{model}: got the outputs {', '.join(names)}; its own are {there}: name each output, "
            "or each of their numbers, in this order."
        )
    return said


def _by_number(
    said: Sequence[Described], own: Sequence[Head]
) -> tuple[list[Described], list[Head]]:
    """Parts outputs of which each number is named."""
    parts, heads, start = list[Described](), list[Head](), 0
    for head in own:
        named = said[start : start + head.size]
        start += head.size
        if head.kind == "classes" and all(one.is_bare for one in named):
            parts.append(Described(head.name, classes=tuple(one.name for one in named)))
            heads.append(head)
            continue
        parts += named
        heads += [Head(head.name, 1, "number" if head.kind == "classes" else head.kind)] * len(
            named
        )
    return parts, heads

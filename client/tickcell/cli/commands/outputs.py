"""The options of `export` and `bundle` that describe outputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tickcell.model.interface import KINDS
from tickcell.model.outputs import Described

if TYPE_CHECKING:
    from tickcell.model.bundle import Bundle

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    ("kind", "kinds", "The kind of the output: probability, classes or number."),
    ("class", "classes", "The name of a class; repeat in the order of the class numbers."),
    ("unit", "units", "The unit of a number."),
    ("meaning", "meanings", "The meaning of the output, as a sentence."),
    ("threshold", "thresholds", "The value from which on a probability is taken to hold."),
)


def described(command: _Command) -> _Command:
    """Adds the options; the command gets them as `kinds`, `classes` and so on."""
    for name, parameter, text in reversed(_OPTIONS):
        option = click.option(
            f"--{name}",
            parameter,
            multiple=True,
            metavar=f"[OUTPUT=]{name.upper()}",
            help=text,
        )
        command = option(command)
    return command


def told(outputs: Sequence[Described], options: dict[str, Any]) -> tuple[Described, ...]:
    """Adds the values of the options to outputs.

    OUTPUT= names the output of a value, and may be omitted if there is only one.

    Args:
      outputs: with their names.
      options: as the command gets them; others are ignored.

    Raises:
      UsageError: a value names no output, is invalid, or is given twice.
    """
    names = [output.name for output in outputs]
    given: dict[str, dict[str, Any]] = {name: {} for name in names}
    for option, parameter, _ in _OPTIONS:
        for text in options[parameter]:
            name, value = _parted(option, text, names)
            fields = given[name]
            if option == "class":
                fields["classes"] = (*fields.get("classes", ()), value)
            elif option in fields:
                raise click.UsageError(f"--{option}: got two for output {name!r}, expected one.")
            else:
                fields[option] = _checked(option, value)
    return tuple(dataclasses.replace(output, **given[output.name]) for output in outputs)


def check(names: Sequence[str], options: dict[str, Any]) -> None:
    """Refuses options that are invalid for any model.

    Args:
      names: of the outputs, if they are known already.
      options: as for `told`.

    Raises:
      UsageError: as for `told`; two outputs have one name, or an output has two kinds.
    """
    if "" in names or len({*names}) < len(names):
        raise click.UsageError(
            f"--output: got {', '.join(map(repr, names))}, expected a name for each, all different."
        )
    if names:
        for output in told([Described(name) for name in names], options):
            _check_kind(output)
        return
    # Without names it is unknown which text begins with one; neither value has a "=" in it.
    for option, parameter in (("kind", "kinds"), ("threshold", "thresholds")):
        for text in options[parameter]:
            _checked(option, text.rpartition("=")[2])


def _check_kind(output: Described) -> None:
    """Refuses an option for an output of one kind that is only for another."""
    said = {
        "probability": ("threshold", output.threshold is not None),
        "classes": ("class", bool(output.classes)),
        "number": ("unit", bool(output.unit)),
    }
    for kind, (option, is_said) in said.items():
        if is_said and output.kind not in (None, kind):
            raise click.UsageError(
                f"--{option}: output {output.name!r} has the kind {output.kind!r} (--kind); "
                f"only the kind {kind!r} takes this option."
            )
    if len({*output.classes}) < len(output.classes):
        raise click.UsageError(
            f"--class: output {output.name!r} got {', '.join(output.classes)}, expected each once."
        )


def lines(bundle: Bundle) -> Iterator[str]:
    """Yields a line for each output of a bundle that describes it."""
    for head in bundle.interface.heads:
        said = bundle.card.outputs[head.name]
        kind = {
            "probability": f"a probability, threshold {said.threshold}",
            "classes": f"{head.size} classes: {', '.join(head.classes) or 'without names'}",
            "number": f"a number in {said.unit}" if said.unit else "a number",
        }[head.kind]
        yield f"output {head.name}: {kind}" + (f" ({said.meaning})" if said.meaning else "")


def _parted(option: str, text: str, names: Sequence[str]) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if equals and name in names:
        return name, value
    if len(names) == 1:
        return names[0], text
    raise click.UsageError(
        f"--{option}: got {text!r}, expected OUTPUT={option.upper()} with one of the outputs "
        f"{', '.join(names)}."
    )


def _checked(option: str, value: str) -> str | float:
    if option == "kind" and value not in KINDS:
        raise click.UsageError(f"--kind: got {value!r}, expected one of {', '.join(KINDS)}.")
    if option != "threshold":
        return value
    try:
        threshold = float(value)
    except ValueError:
        threshold = math.nan
    if not math.isfinite(threshold):
        raise click.UsageError(f"--threshold: got {value!r}, expected a number.")
    return threshold

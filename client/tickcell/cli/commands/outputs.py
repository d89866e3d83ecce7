"""The options by which `export` and `bundle` are told what outputs are."""

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
    ("kind", "kinds", "What it is: probability, classes or number."),
    ("class", "classes", "The name of a class; once for each, in the order of its numbers."),
    ("unit", "units", "The unit of a number."),
    ("meaning", "meanings", "What it means, as a sentence."),
    ("threshold", "thresholds", "From which number on a probability is taken to hold."),
)


def described(command: _Command) -> _Command:
    """Adds the options; the command is given them as `kinds`, `classes` and so on."""
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
    """Adds what the options say to what is known of outputs.

    Of a value, OUTPUT= says which output it is of; where there is one, it may be left out.

    Args:
      outputs: with their names.
      options: as the command is given them; others are not looked at.

    Raises:
      UsageError: a value is of no output, is no such value, or is there twice.
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
                raise click.UsageError(f"--{option}: output {name!r} has two.")
            else:
                fields[option] = _checked(option, value)
    return tuple(dataclasses.replace(output, **given[output.name]) for output in outputs)


def check(names: Sequence[str], options: dict[str, Any]) -> None:
    """Refuses what the options say and cannot be meant, whatever the model is.

    Args:
      names: of the outputs, where they are known already.
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
    # Without names nobody knows yet which text begins with one; neither value has a "=" in it.
    for option, parameter in (("kind", "kinds"), ("threshold", "thresholds")):
        for text in options[parameter]:
            _checked(option, text.rpartition("=")[2])


def _check_kind(output: Described) -> None:
    """Refuses what is said of an output of one kind and is only of another."""
    said = {
        "probability": ("threshold", output.threshold is not None),
        "classes": ("class", bool(output.classes)),
        "number": ("unit", bool(output.unit)),
    }
    for kind, (option, is_said) in said.items():
        if is_said and output.kind not in (None, kind):
            raise click.UsageError(
                f"--{option}: output {output.name!r} is of the kind {output.kind!r} (--kind), and "
                f"only {kind} has one."
            )
    if len({*output.classes}) < len(output.classes):
        raise click.UsageError(
            f"--class: output {output.name!r} has {', '.join(output.classes)}, expected each once."
        )


def lines(bundle: Bundle) -> Iterator[str]:
    """Yields what each output of a bundle is, a line each."""
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

"""The options of commands that read recordings: the layout of a file, and its labels."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from tickcell.model.recording import Layout, RecordingError
from tickcell.model.recording.labels import Kind, Labels
from tickcell.model.recording.layout import OnGap, TimeUnit
from tickcell.model.recording.mending import Policy

_Command = TypeVar("_Command", bound=Callable[..., Any])

_LABEL = "The column of labels.  [default: the only remaining column]"
_TABS = {"tab": "\t", "\\t": "\t", "space": " "}


def layout(
    *, label: str = _LABEL, on_gap: tuple[str, ...] = get_args(OnGap)
) -> Callable[[_Command], _Command]:
    """Adds the options to a command, which gets them as one argument, `layout`.

    Args:
      label: the help of the option --label; empty for a command that reads no labels.
      on_gap: what it may do with a gap; a command for several recordings may split.
    """
    labels = [click.option("--label", metavar="COLUMN", help=label)]
    parts = [
        click.option(
            "--recording-column",
            metavar="COLUMN",
            help="The column that splits a file into recordings.",
        )
    ]
    options = [
        *(labels if label else []),
        click.option("--time", metavar="COLUMN", help="The column of times; 'none' ignores them."),
        click.option(
            "--time-unit", type=click.Choice(get_args(TimeUnit)), help="The unit of the times."
        ),
        *(parts if "split" in on_gap else []),
        click.option(
            "--delimiter",
            metavar="MARK",
            help="The separator of cells; or 'tab', or 'space' for runs of spaces.",
        ),
        click.option("--decimal", type=click.Choice([".", ","]), help="The decimal mark."),
        click.option(
            "--columns",
            metavar="NAMES|@FILE",
            help="Column names for a file without any: separated by commas, or one per line.",
        ),
        click.option(
            "--source",
            "sources",
            multiple=True,
            metavar="SENSOR=COLUMN",
            help="The column of a sensor; may be repeated.",
        ),
        click.option(
            "--clock-topic",
            metavar="TOPIC",
            help="The topic of a bag whose messages are the ticks.",
        ),
        click.option(
            "--max-gap",
            type=click.FloatRange(1),
            default=Layout().max_gap,
            show_default=True,
            metavar="PERIODS",
            help="The longest gap between two frames, in periods.",
        ),
        click.option(
            "--on-gap",
            type=click.Choice(on_gap),
            help="What to do with a longer gap.  [default: raise; keep on standard input]",
        ),
    ]

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def gathered(*args: Any, **given: Any) -> Any:
            asked = {name: given.pop(name, None) for name in _LAYOUT}
            return command(*args, layout=_layout(asked), **given)

        decorated: Any = gathered
        for option in reversed(options):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]  # click's decorators are untyped

    return decorate


_LAYOUT = (
    "label",
    "time",
    "time_unit",
    "recording_column",
    "delimiter",
    "decimal",
    "columns",
    "sources",
    "clock_topic",
    "max_gap",
    "on_gap",
)
_LABELS = ("label_kind", "null_class", "label_countdown", "label_file")
# The parameters that the two functions here add to commands.
NAMES = (*_LAYOUT, *_LABELS, "on_dropout")


def _names(given: str) -> tuple[str, ...]:
    """Returns names of columns: those given, or those in the file named after an @."""
    if given.startswith("@"):
        path = pathlib.Path(given[1:])
        try:
            given = path.read_text(encoding="utf-8").strip().replace("\n", ",")
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"--columns: {path}: cannot be read: {error}.") from error
    return tuple(name.strip() for name in given.split(","))


def _layout(asked: dict[str, Any]) -> Layout:
    fields = {key: value for key, value in asked.items() if value is not None}
    if "columns" in fields:
        fields["columns"] = _names(fields["columns"])
    if "delimiter" in fields:
        fields["delimiter"] = _TABS.get(fields["delimiter"], fields["delimiter"])
    sources = {}
    for source in fields.pop("sources"):
        sensor, mark, column = source.partition("=")
        if not (sensor and mark and column):
            raise click.UsageError(f"--source: got {source!r}, expected SENSOR=COLUMN.")
        sources[sensor] = column
    try:
        return Layout(**fields, sources=sources)
    except RecordingError as error:
        raise click.UsageError(str(error)) from error


_LABEL_KINDS: dict[str, Kind] = {
    "binary": "probability",
    "classes": "classes",
    "numbers": "number",
}


def labels(*, kinds: bool = True) -> Callable[[_Command], _Command]:
    """Adds options for labels and dropouts; the command gets `labels` and `on_dropout`.

    Args:
      kinds: whether the command takes the kind of labels; a bundle has it itself.
    """
    of_kind = click.option(
        "--labels",
        "label_kind",
        type=click.Choice([*_LABEL_KINDS]),
        help="The kind of the labels.  [default: inferred, and printed]",
    )
    options = [
        *([of_kind] if kinds else []),
        click.option("--null-class", metavar="LABEL", help="The label that means no label."),
        click.option(
            "--label-countdown",
            is_flag=False,
            flag_value="",
            metavar="[CAP]",
            help="Use the time that remains of each recording as labels, CAP at most.",
        ),
        click.option(
            "--label-file",
            type=click.Path(dir_okay=False, exists=True),
            help="A text file with one label per recording, one per line.",
        ),
        click.option(
            "--on-dropout",
            type=click.Choice(["raise", *get_args(Policy)]),
            help="What to do with missing readings.  [default: raise]",
        ),
    ]

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def gathered(*args: Any, **given: Any) -> Any:
            asked = _labels(*(given.pop(name, None) for name in _LABELS))
            on_dropout = given.pop("on_dropout")
            policy = None if on_dropout == "raise" else on_dropout
            return command(*args, labels=asked, on_dropout=policy, **given)

        decorated: Any = gathered
        for option in reversed(options):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]  # click's decorators are untyped

    return decorate


def _labels(
    kind: str | None, null_class: str | None, countdown: str | None, file: str | None
) -> Labels:
    try:
        return Labels(
            kind=None if kind is None else _LABEL_KINDS[kind],
            null_class=null_class,
            countdown=countdown is not None,
            cap=float(countdown) if countdown else None,
            file=file or "",
        )
    except ValueError as error:
        # A cap that is not a number, or options that exclude each other.
        raise click.UsageError(f"--label-countdown, --label-file: {error}") from error

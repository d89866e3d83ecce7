"""The options of commands that read recordings: what is known of a file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from tickcell.model.recording import Layout, RecordingError
from tickcell.model.recording.layout import OnGap, TimeUnit

_Command = TypeVar("_Command", bound=Callable[..., Any])

_TABS = {"tab": "\t", "\\t": "\t", "space": " "}


def layout(
    *, label: bool = True, on_gap: tuple[str, ...] = get_args(OnGap)
) -> Callable[[_Command], _Command]:
    """Adds the options to a command, which gets them as one argument, `layout`.

    Args:
      label: whether the command reads labels.
      on_gap: what it may do with a gap.
    """
    labels = [
        click.option(
            "--label", default="aggressive", show_default=True, help="The column of labels."
        )
    ]
    options = [
        *(labels if label else []),
        click.option("--time", metavar="COLUMN", help="The column of times; 'none' ignores them."),
        click.option("--time-unit", type=click.Choice(get_args(TimeUnit)), help="Of the times."),
        click.option(
            "--delimiter", metavar="MARK", help="Between cells; or 'tab', or 'space' for runs."
        ),
        click.option(
            "--decimal", type=click.Choice([".", ","]), help="The mark before a fraction."
        ),
        click.option(
            "--columns", metavar="NAMES", help="Names, parted by commas, where the file has none."
        ),
        click.option(
            "--source",
            "sources",
            multiple=True,
            metavar="SENSOR=COLUMN",
            help="Where a sensor is read from; may be given again.",
        ),
        click.option(
            "--clock-topic", metavar="TOPIC", help="The topic of a bag that gives the ticks."
        ),
        click.option(
            "--max-gap",
            type=click.FloatRange(1),
            default=Layout().max_gap,
            show_default=True,
            metavar="PERIODS",
            help="The longest gap between two frames.",
        ),
        click.option(
            "--on-gap",
            type=click.Choice(on_gap),
            help="What is done with a longer gap.  [default: raise; keep on standard input]",
        ),
    ]

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def gathered(*args: Any, **given: Any) -> Any:
            asked = {name: given.pop(name, None) for name in _FIELDS}
            return command(*args, layout=_layout(asked), **given)

        decorated: Any = gathered
        for option in reversed(options):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


_FIELDS = (
    "label",
    "time",
    "time_unit",
    "delimiter",
    "decimal",
    "columns",
    "sources",
    "clock_topic",
    "max_gap",
    "on_gap",
)


def _layout(asked: dict[str, Any]) -> Layout:
    # A command that has no option for labels ignores them.
    fields = {key: value for key, value in asked.items() if value is not None or key == "label"}
    if "columns" in fields:
        fields["columns"] = tuple(name.strip() for name in fields["columns"].split(","))
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

"""Which columns of a table are read: the sensors', the times, the labels, the recordings'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tickcell.model.recording import times
from tickcell.model.recording.errors import RecordingError
from tickcell.model.recording.layout import Layout
from tickcell.model.recording.table import Chosen, Table, listed
from tickcell.model.recording.times import TimeColumn


class Columns(NamedTuple):
    """The columns of a table.

    Attributes:
      chosen: where they are.
      time: what is known of the times; None where there are none.
      label_name: the column of labels; None where there is none, or in arrays.
      is_label_guessed: whether it is so called because no other could be it.
      ignored: the names of those that are not used.
    """

    chosen: Chosen
    time: TimeColumn | None
    label_name: str | None
    is_label_guessed: bool
    ignored: tuple[str, ...]


def find(
    table: Table,
    layout: Layout,
    sensor_names: Sequence[str],
    rate_hz: float | None,
    *,
    labelled: bool,
) -> Columns:
    """Finds the columns of a table.

    Args:
      table: in which the columns of the sensors are.
      layout: what is known of it.
      sensor_names: of the readings of a frame, in its order.
      rate_hz: the rate to expect, if one is known.
      labelled: whether there must be labels.

    Raises:
      RecordingError: a column is not there, not the only one of its name, or not distinct.
    """
    sensors = [layout.source(name) for name in sensor_names]
    label, parting = table.label_column or layout.label, layout.recording_column
    for name, option in ((label, "--label"), (parting, "--recording-column")):
        if name is not None and name not in table.names:
            raise RecordingError(
                f"{table.source}: no {table.column} is named {name!r} ({option}); the "
                f"{table.column}s are {listed(table.names)}."
            )
    named = [name for name in (label, parting) if name is not None]
    time = times.find(table, layout, [*sensors, *named], rate_hz)
    time_names = () if time is None else (time.name, *time.others)
    is_guessed = labelled and label is None
    if is_guessed:
        label = _only_other(table, {*sensors, *named, *time_names, ""})
    wanted = [*sensors, *time_names[:1], *(name for name in (label, parting) if name is not None)]
    for name in wanted:
        if table.names.count(name) > 1:
            raise RecordingError(
                f"{table.source}: {table.row} 1: {table.names.count(name)} columns are named "
                f"{name!r}, expected one; rename the others, or name all in order with --columns."
            )
    places = [
        None if name is None else table.names.index(name)
        for name in (None if time is None else time.name, label, parting)
    ]
    known = {*wanted, *time_names, ""}
    return Columns(
        chosen=Chosen([table.names.index(name) for name in sensors], *places),
        time=time,
        label_name=None if table.label_column else label,
        is_label_guessed=is_guessed,
        ignored=(*(name for name in table.names if name not in known), *table.unread),
    )


def _only_other(table: Table, known: set[str]) -> str:
    """Returns the only column that is nobody's: no sensor's, the time's or recordings'."""
    found = [name for name in table.names if name not in known]
    if len(found) != 1:
        raise RecordingError(
            f"{table.source}: has no labels: looked for the only column that is neither a sensor's "
            f"nor the time's, and found {listed(found) or 'none'}; name it with --label."
        )
    return found[0]

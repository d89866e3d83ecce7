"""The table: its rows, what measures them, and how they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import big_cell, callers, chunks, cpu, many, pairs, start, streaming, wide
from bench.row import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.row import Effort
    from tickcell.model import Bundle

    Measure = Callable[[Bundle, Effort], list[Row]]

# By the number of their row.
MEASURES: dict[int, Measure] = {
    1: callers.session_rows,
    2: callers.async_session_rows,
    3: streaming.rows,
    4: chunks.rows,
    5: wide.rows,
    6: many.rows,
    7: cpu.rows,
    8: pairs.rows,
    10: big_cell.rows,
    12: start.rows,
}
# What takes too long for the table, or wants the machine for itself.
APART = {
    9: Row(9, "a million sessions beside a thousand", None, beside="run python -m bench.million"),
    11: Row(11, "two workers beside one", None, beside="run python -m bench.workers"),
}

_HEAD = f"{'#':>2}  {'measure':66}{'measured':>12}{'aim':>9}  {'met':4} beside"


def show(rows: Sequence[Row]) -> str:
    """Returns the table of some rows."""
    return "\n".join([_HEAD, *map(_line, rows)])


def _line(row: Row) -> str:
    value = "-" if row.value is None else f"{row.value:.2f} {row.unit}".rstrip()
    aim = "" if row.aim is None else str(row.aim)
    met = {True: "yes", False: "no", None: ""}[row.is_met]
    return f"{row.number:2}  {row.measure:66}{value:>12}{aim:>9}  {met:4} {row.beside}".rstrip()

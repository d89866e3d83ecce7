"""A run as a picture: each measured value over its aim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickcell.model import extras

if TYPE_CHECKING:
    import pathlib

    from bench.results import Run
    from bench.row import Row

_MET, _MISSED = "#2a7f62", "#c4572e"


def draw(run: Run, path: pathlib.Path) -> None:
    """Draws the rows that have an aim; what is right of the line has not reached it.

    Each bar is how many times its aim a value costs: the value over the aim where it is to be
    small, and the aim over the value where it is to be large. So shorter is better throughout.

    Raises:
      MissingExtraError: the extra "plot" is not installed.
    """
    rows = [row for row in run.rows if row.is_met is not None]
    figure = extras.load("matplotlib.figure", extra="plot").Figure(
        figsize=(10, 1.2 + 0.34 * len(rows)), layout="constrained"
    )
    axes = figure.subplots()
    labels = [f"{row.number}  {row.measure}" for row in rows]
    shares = [_share(row) for row in rows]
    places = range(len(rows))
    axes.barh(places, shares, color=[_MET if row.is_met else _MISSED for row in rows])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    for place, row, share in zip(places, rows, shares, strict=True):
        said = f" {row.value:.2f} {row.unit}".rstrip() + f" (aim {row.aim})"
        # Beside the line, not over it.
        axes.text(max(share, 1.0), place, said, va="center", fontsize=8)
    axes.set_xlim(0, 1.35 * max([1.0, *shares]))
    axes.set_xlabel("of the aim (the line): shorter is better")
    axes.set_title(f"{run.began}, load {run.load_before} before", fontsize=9, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=110)


def _share(row: Row) -> float:
    assert row.aim is not None
    assert row.value is not None
    if row.aim.sense == "<=":
        return row.value / row.aim.bound
    return row.aim.bound / row.value

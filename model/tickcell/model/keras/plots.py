"""Plots of training and evaluation, as PNG files."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model import extras

if TYPE_CHECKING:
    from tickcell.model.keras.evaluation import Streamed
    from tickcell.model.keras.history import History

_ROW_S = 120.0


def curves(history: History, path: pathlib.Path) -> None:
    """Draws loss and accuracy over the epochs, of training and of validation."""
    with _figure(path, rows=1, columns=2, size=(10, 4)) as axes:
        for axis, name, title in (
            (axes[0], "loss", "binary cross-entropy"),
            (axes[1], "binary_accuracy", "accuracy"),
        ):
            for prefix, label in (("", "training"), ("val_", "validation")):
                values = history.column(prefix + name)
                if values:
                    axis.plot(range(1, len(values) + 1), values, label=label)
            axis.set(xlabel="epoch", ylabel=title)
            axis.legend()
            axis.grid(alpha=0.3)


@contextmanager
def _figure(
    path: pathlib.Path, *, rows: int, columns: int, size: tuple[float, float]
) -> Iterator[Any]:
    """Gives axes to draw on, and saves them; no window is opened and no state is shared."""
    figure = extras.load("matplotlib.figure", extra="plot").Figure(
        figsize=size, layout="constrained"
    )
    yield figure.subplots(rows, columns, squeeze=False).ravel()
    figure.savefig(path, dpi=120)


def outputs(streamed: Sequence[Streamed], threshold: float, path: pathlib.Path) -> None:
    """Draws each recording's output over time, its events shaded, in rows of two minutes."""
    parts = [
        (part, start)
        for part in streamed
        for start in np.arange(part.times[0], part.times[-1], _ROW_S)
    ]
    with _figure(path, rows=len(parts), columns=1, size=(12, 1.5 * len(parts) + 0.5)) as axes:
        for axis, (part, start) in zip(axes, parts, strict=True):
            shown = (part.times >= start) & (part.times < start + _ROW_S)
            times = part.times[shown]
            if part.labels is not None:
                events = part.labels[shown] == 1
                axis.fill_between(
                    times, 0, 1, where=events, color="tab:orange", alpha=0.3, lw=0, label="event"
                )
            axis.plot(times, part.outputs[shown], lw=0.8, label="output")
            axis.axhline(threshold, color="grey", lw=0.6, ls="--")
            axis.set(xlim=(start, start + _ROW_S), ylim=(0, 1), ylabel=part.name)
        axes[0].legend(loc="upper right", ncols=2)
        axes[-1].set_xlabel("seconds")

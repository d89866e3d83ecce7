"""Plots of training and evaluation, as PNG files."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tickcell.model import extras

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tickcell.model.keras.history import History


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

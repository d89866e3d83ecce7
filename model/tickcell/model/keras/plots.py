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
    from tickcell.model.keras.scored import Scored
    from tickcell.model.keras.scores import ClassScores
    from tickcell.model.recording.labels import Labelling

_ROW_S = 120.0
_CURVES = {
    "loss": "loss",
    "binary_accuracy": "accuracy",
    "sparse_categorical_accuracy": "accuracy",
    "mean_absolute_error": "mean |error|, in the label's unit",
}


def curves(history: History, path: pathlib.Path) -> None:
    """Draws the loss and the measure of the epochs, of training and of validation."""
    drawn = [(name, title) for name, title in _CURVES.items() if history.column(name)]
    with _figure(path, rows=1, columns=len(drawn), size=(5 * len(drawn), 4)) as axes:
        for axis, (name, title) in zip(axes, drawn, strict=True):
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


def outputs(streamed: Sequence[Streamed], chosen: Scored, path: pathlib.Path) -> None:
    """Draws each recording's scored outputs over time, in rows of two minutes.

    With labels 0 and 1 events are shaded; of classes a band shows the label over the class
    that was said; numbers are drawn over their labels.
    """
    labelling = chosen.labelling
    thresholds = {part.threshold for part in chosen.parts if part.threshold is not None}
    longest_s = max(part.times[-1] - part.times[0] for part in streamed)
    # Longer than the longest by so little that its last frame is still in its row.
    row_s = min(_ROW_S, max(1.001 * longest_s, 1.0))
    parts = [
        (part, start)
        for part in streamed
        for start in np.arange(part.times[0], max(part.times[-1], part.times[0] + 1e-9), row_s)
    ]
    draw = {"probability": _probability, "classes": _classes, "number": _number}[labelling.kind]
    with _figure(path, rows=len(parts), columns=1, size=(12, 1.5 * len(parts) + 0.5)) as axes:
        for axis, (part, start) in zip(axes, parts, strict=True):
            times, labels = part.times, part.labels
            shown = (times >= start) & (times < start + row_s)
            draw(
                axis,
                times[shown],
                part.outputs[shown],
                None if labels is None else labels[shown],
                labelling,
            )
            for threshold in thresholds:
                axis.axhline(threshold, color="grey", lw=0.6, ls="--")
            axis.set(xlim=(start, start + row_s), ylabel=part.name)
        axes[-1].set_xlabel("cycles" if labelling.unit == "cycle" else "seconds")
        _legend(axes[0], chosen)


def confusion(of: ClassScores, classes: Sequence[str], path: pathlib.Path) -> None:
    """Draws which class was said of the frames of each, in shares of the row."""
    counts = np.array(of.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.5 * len(classes)
    places = range(len(classes))
    with _figure(path, rows=1, columns=1, size=(side + 0.8, side)) as axes:
        image = axes[0].imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes[0].set_xticks(places, classes, rotation=45, ha="right")
        axes[0].set_yticks(places, classes)
        axes[0].set(xlabel="said", ylabel="label")
        for row in places:
            for column in places:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes[0].text(
                    column, row, f"{counts[row, column]}", ha="center", va="center", color=color,
                    fontsize=8,
                )  # fmt: skip
        axes[0].figure.colorbar(image, ax=axes[0], label="share of the label's frames")


def truth(streamed: Sequence[Streamed], chosen: Scored, path: pathlib.Path) -> None:
    """Draws the scored numbers over their labels, and the line on which they would be right."""
    labels = np.concatenate(
        [part.labels[part.scored] for part in streamed if part.labels is not None]
    )
    outputs = np.concatenate([part.outputs[part.scored] for part in streamed])
    labels, outputs = labels[~np.isnan(labels)], outputs[~np.isnan(labels)]
    ends = [min(labels.min(), outputs.min()), max(labels.max(), outputs.max())]
    with _figure(path, rows=1, columns=1, size=(5.5, 5)) as axes:
        for column, part in enumerate(chosen.parts):
            axes[0].plot(labels, outputs[:, column], ".", ms=3, alpha=0.4, label=part.name)
        axes[0].plot(ends, ends, color="grey", lw=0.8, ls="--", label="output = label")
        suffix = f" ({chosen.labelling.unit})" if chosen.labelling.unit else ""
        axes[0].set(xlabel=f"label{suffix}", ylabel=f"output{suffix}", aspect="equal")
        axes[0].grid(alpha=0.3)
        axes[0].legend(loc="upper left")


def _probability(axis: Any, times: Any, outputs: Any, labels: Any, _: Labelling) -> None:
    if labels is not None:
        axis.fill_between(times, 0, 1, where=labels == 1, color="tab:orange", alpha=0.3, lw=0)
    for column in range(outputs.shape[1]):
        axis.plot(times, outputs[:, column], lw=0.8, color=f"C{column}")
    axis.set(ylim=(0, 1))


def _classes(axis: Any, times: Any, outputs: Any, labels: Any, labelling: Labelling) -> None:
    colors = extras.load("matplotlib.colors", extra="plot")
    said = outputs.argmax(axis=1)
    none = np.full(len(said), np.nan)
    bands = np.ma.masked_invalid(np.stack([said, none if labels is None else labels]))
    places = range(labelling.output_count)
    # Each frame lasts to the next one, also where the class changes with every frame.
    edges = np.append(times, 2 * times[-1] - times[-2] if len(times) > 1 else times[-1] + 1)
    axis.pcolormesh(
        edges,
        [0, 1, 2],
        bands,
        cmap=colors.ListedColormap([_class_color(place) for place in places]),
        vmin=-0.5,
        vmax=len(places) - 0.5,
    )
    axis.axhline(1, color="white", lw=1)
    axis.set(ylim=(0, 2), yticks=[0.5, 1.5], yticklabels=["said", "label"])


def _number(axis: Any, times: Any, outputs: Any, labels: Any, _: Labelling) -> None:
    if labels is not None:
        axis.plot(times, labels, lw=1.2, color="tab:orange")
    for column in range(outputs.shape[1]):
        axis.plot(times, outputs[:, column], lw=0.8, color=f"C{column}")


def _class_color(place: int) -> str:
    return f"C{place % 10}"


def _legend(axis: Any, chosen: Scored) -> None:
    """Names what is drawn, above the first row."""
    patches = extras.load("matplotlib.patches", extra="plot")
    labelling = chosen.labelling
    if labelling.kind == "classes":
        named = {_class_color(place): name for place, name in enumerate(labelling.classes)}
    else:
        label = "event" if labelling.kind == "probability" else "label"
        named = {"tab:orange": label}
        named |= {f"C{column}": part.name for column, part in enumerate(chosen.parts)}
    handles = [patches.Patch(color=color, label=name) for color, name in named.items()]
    axis.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=8, frameon=False)

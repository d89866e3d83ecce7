"""Pictures of a replay and of an agent's drive; needs the extra "plot"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.drive.agent import HARSH
from tickcell.model import extras

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from tickcell.client.resources import Model, Output
    from tickcell.drive.agent import Trace
    from tickcell.model.recording import Recording
    from tickcell.model.recording.labels import Labelling

_LABEL_COLOUR = "#d62728"
_OUTPUT_COLOUR = "#1f77b4"
_EASED_COLOUR = "#2ca02c"


def check_installed() -> None:
    """Finds out early that there is nothing to draw with.

    Raises:
      MissingExtraError: the message has the command that installs it.
    """
    extras.load("matplotlib", extra="plot")


def replay(
    path: str | os.PathLike[str],
    recording: Recording,
    outputs: NDArray[np.float32],
    model: Model,
    labelling: Labelling,
) -> None:
    """Draws the sensors, and below them the outputs over the label.

    Probabilities share a row; numbers have a row for each unit. A label of 1 is shaded, and
    so is each class, in the colour of its output; a number is a line.

    Args:
      path: of the PNG.
      recording: at least as long as the outputs.
      outputs: `[T, O]`.
      model: names units and thresholds.
      labelling: what the labels are, if there are any.
    """
    times = recording.times[: len(outputs)]
    units = list(dict.fromkeys(sensor.unit for sensor in model.sensors))
    scales = list(dict.fromkeys(map(_scale, model.outputs)))
    figure, axes = _figure(len(units) + len(scales))
    for axis, unit in zip(axes, units, strict=False):
        for index, sensor in enumerate(model.sensors):
            if sensor.unit == unit:
                readings = recording.frames[: len(outputs), index]
                axis.plot(times, readings, linewidth=0.6, label=sensor.name)
        axis.set_ylabel(unit)
        _legend(axis)
    for axis, scale in zip(axes[len(units) :], scales, strict=True):
        _outputs(axis, times, outputs, model, scale)
        if recording.labels is not None:
            labels = recording.labels[: len(outputs)]
            _labels(axis, times, labels, labelling, model, scale)
        _legend(axis)
    axes[-1].set_xlabel("s")
    figure.suptitle(f"{recording.name} through {model.name} {model.version}")
    _save(figure, path)


def agent(path: str | os.PathLike[str], uneased: Trace, eased: Trace, threshold: float) -> None:
    """Draws a drive with the agent beside the same drive without, and the agent's output."""
    figure, (above, below) = _figure(2)
    for trace, name, colour in ((uneased, "never eased", "grey"), (eased, "agent", _OUTPUT_COLOUR)):
        above.plot(trace.times, trace.accelerations, linewidth=0.8, color=colour, label=name)
    above.axhline(HARSH, color="grey", linestyle=":", linewidth=0.8)
    above.set_ylabel("horizontal acceleration, m/s2")
    _legend(above)
    below.plot(eased.times, eased.outputs, linewidth=0.8, color=_OUTPUT_COLOUR, label="output")
    below.axhline(threshold, color="grey", linestyle=":", linewidth=0.8)
    _shade(below, eased.times, np.asarray(eased.labels) > 0, _LABEL_COLOUR, "label")
    _shade(below, eased.times, np.asarray(eased.eased), _EASED_COLOUR, "eased")
    below.set_ylim(-0.02, 1.02)
    below.set_ylabel("output")
    _legend(below)
    below.set_xlabel("s")
    _save(figure, path)


def _scale(output: Output) -> str:
    """Returns what the numbers of an output are measured in."""
    return (output.unit or "number") if output.kind == "number" else "probability"


def _outputs(axis: Any, times: Any, outputs: NDArray[np.float32], model: Model, scale: str) -> None:
    """Draws the outputs of one scale, and their thresholds."""
    column = 0
    for output in model.outputs:
        columns = range(column, column + output.size)
        column += output.size
        if _scale(output) != scale:
            continue
        for index in columns:
            name = model.output_names[index]
            axis.plot(times, outputs[:, index], linewidth=0.9, label=name)
        if output.threshold is not None:
            axis.axhline(output.threshold, color="grey", linestyle=":", linewidth=0.8)
    if scale == "probability":
        axis.set_ylim(-0.02, 1.02)
    axis.set_ylabel(scale)


def _labels(
    axis: Any,
    times: Any,
    labels: NDArray[np.float32],
    labelling: Labelling,
    model: Model,
    scale: str,
) -> None:
    """Draws labels, where they are of the scale of this row, over which outputs are drawn."""
    if labelling.kind == "number":
        if scale == (labelling.unit or "number"):
            axis.plot(times, labels, linewidth=0.9, color=_LABEL_COLOUR, label="label")
    elif scale == "probability" and labelling.kind == "probability":
        _shade(axis, times, labels > 0.5, _LABEL_COLOUR, "label")
    elif scale == "probability":
        colours = {line.get_label(): line.get_color() for line in axis.lines}
        first = _first_column(model, len(labelling.classes))
        for place, name in enumerate(labelling.classes):
            colour = colours[model.output_names[first + place]]
            _shade(axis, times, labels == place, colour, f"label {name}")


def _first_column(model: Model, class_count: int) -> int:
    """Returns where the numbers of the first output of so many classes begin."""
    column = 0
    for output in model.outputs:
        if output.kind == "classes" and output.size == class_count:
            break
        column += output.size
    return column


def _figure(rows: int) -> tuple[Any, Any]:
    figures = extras.load("matplotlib.figure", extra="plot")
    # Not pyplot: no window, no state that is left behind.
    figure = figures.Figure(figsize=(12, 2.4 * rows), layout="constrained")
    return figure, figure.subplots(rows, 1, sharex=True)


def _legend(axis: Any) -> None:
    # Beside the axes, where it hides nothing.
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="x-small")


def _shade(axis: Any, times: Any, where: NDArray[np.bool_], colour: str, name: str) -> None:
    # Over the whole height, whatever the scale is.
    height = axis.get_xaxis_transform()
    axis.fill_between(
        times, 0, 1, where=where, color=colour, alpha=0.2, linewidth=0, step="mid", label=name,
        transform=height,
    )  # fmt: skip


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    figure.savefig(path, format="png", dpi=110)

"""Recordings opened by their paths: which format a file has."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tickcell.model.recording import arrays, text
from tickcell.model.recording.arrays import ArraysTable
from tickcell.model.recording.bags import BagTable
from tickcell.model.recording.delimited import DelimitedTable
from tickcell.model.recording.errors import RecordingError
from tickcell.model.recording.json_lines import JsonLinesTable
from tickcell.model.recording.labels import Labelling
from tickcell.model.recording.layout import Layout
from tickcell.model.recording.parquet import ParquetTable
from tickcell.model.recording.reader import Reader
from tickcell.model.recording.table import Table, listed
from tickcell.model.recording.text import Lines

if TYPE_CHECKING:
    from tickcell.model.interface import Sensor

STANDARD_INPUT = "-"


def open_recording(
    path: str | os.PathLike[str],
    sensors: Sequence[Sensor],
    layout: Layout | None = None,
    *,
    rate_hz: float | None = None,
    to_hz: float | None = None,
    dropouts: bool = False,
    labelled: bool = False,
    sequences: bool = False,
    labelling: Labelling | None = None,
) -> Reader:
    """Opens a recording, and judges it by its first rows.

    Args:
      path: of the file: delimited text, JSON lines, Parquet, NPY, NPZ, a ROS bag or MCAP. "-"
        is delimited text or JSON lines on standard input, given row by row as they come.
      sensors: whose readings make a frame, in its order.
      layout: what is known of the file.
      rate_hz: the rate of a file that has no times, and the one to expect of others.
      to_hz: the rate to bring the frames to; None keeps theirs.
      dropouts: whether a reading may be missing (an empty cell, null, NaN or infinite); it is
        NaN in its frame.
      labelled: whether there must be labels.
      sequences: whether an NPY or NPZ may hold `[N, T, F]`, N recordings.
      labelling: what the labels are; 0 and 1 without it.

    Raises:
      RecordingError: the file cannot be read, or has something in it that is no recording.
      MissingExtraError: an extra that reads such files is not installed.
    """
    layout = layout or Layout()
    wanted = [layout.source(sensor.name) for sensor in sensors]
    if unknown := [name for name in layout.sources if name not in {s.name for s in sensors}]:
        raise RecordingError(
            f"--source: no sensor is named {listed(unknown)}; the sensors are "
            f"{listed([sensor.name for sensor in sensors])}."
        )
    try:
        table = _open_table(path, sensors, wanted, layout, dropouts=dropouts, sequences=sequences)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}.") from error
    names = [sensor.name for sensor in sensors]
    return Reader(
        table,
        names,
        layout,
        rate_hz=rate_hz,
        to_hz=to_hz,
        dropouts=dropouts,
        labelled=labelled,
        labelling=labelling,
    )


def _open_table(
    path: str | os.PathLike[str],
    sensors: Sequence[Sensor],
    wanted: Sequence[str],
    layout: Layout,
    *,
    dropouts: bool,
    sequences: bool,
) -> Table:
    if str(path) == STANDARD_INPUT:
        return _of_lines(Lines(sys.stdin, "standard input", is_live=True), wanted, layout)
    file = pathlib.Path(path)
    suffix = file.suffix.lower()
    if suffix in (".npy", ".npz"):
        found = arrays.read(file, sensors, dropouts=dropouts, sequences=sequences)
        return ArraysTable(str(file), found, wanted)
    if suffix == ".parquet":
        return ParquetTable(file, wanted)
    if suffix in (".bag", ".db3", ".mcap") or (file / "metadata.yaml").exists():
        return BagTable(file, wanted, layout)
    lines = Lines(text.of_file(file), str(file), size=text.size_of_file(file))
    return _of_lines(lines, wanted, layout)


def _of_lines(lines: Lines, wanted: Sequence[str], layout: Layout) -> Table:
    """Returns the table of a text: of JSON lines if its first line begins an object.

    Raises:
      RecordingError: there is no row, or a column that must be there is not.
    """
    first = lines.first().lstrip("\ufeff \t")
    if first.startswith(("[{", "[[")) or first.strip() == "[":
        raise RecordingError(
            f"{lines.source}: is one JSON array; write one part per line, as jq -c '.[]' does."
        )
    if first.startswith("{"):
        return JsonLinesTable(lines, wanted)
    return DelimitedTable(lines, wanted, layout)

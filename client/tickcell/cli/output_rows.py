"""The file of outputs: one row of CSV per step, each whole before the next frame is let go.

    step,t,output,label
    0,0.0,0.013,0

The crash of any process leaves at most a torn last row behind, which `resume` cuts
off. A power cut may take more rows than the window makes up for; `resume` says so.
"""

from __future__ import annotations

import array
import contextlib
import csv
import io
import os
import pathlib
import sys
from typing import TYPE_CHECKING, TextIO

import numpy as np

from tickcell.client import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


class RowsError(errors.TickcellError):
    """A file of outputs is not one, or is another recording's."""


class OutputRows:
    """Writes rows, one per step.

    Attributes:
      next_step: the step of the next row.
      outputs: `[R, O]`, those of the rows that were there before.
    """

    def __init__(
        self,
        file: TextIO,
        output_names: Sequence[str],
        *,
        has_labels: bool,
        outputs: NDArray[np.float32] | None = None,
    ) -> None:
        """Goes on after the rows that are there.

        Args:
          file: at its end.
          output_names: of an output row.
          has_labels: whether each row has a label.
          outputs: of the rows that are there; None for a new file, which gets its header.
        """
        self._file = file
        if outputs is None:
            outputs = np.empty((0, len(output_names)), np.float32)
            self._write(header(output_names, has_labels=has_labels))
        self.outputs = outputs
        self.next_step = len(outputs)

    def write(self, t: float, output: NDArray[np.float32], label: str | None) -> None:
        """Writes the next step's row; it is whole in the file when this returns.

        Args:
          t: the frame's time in seconds.
          output: `[O]`.
          label: its text, empty for none; or None where rows have no label.
        """
        cells = [str(self.next_step), repr(round(t, 6)), *map(str, output)]
        if label is not None:
            cells.append(_cell(label))
        self._write(",".join(cells))
        self.next_step += 1

    def _write(self, row: str) -> None:
        self._file.write(f"{row}\n")
        self._file.flush()


def header(output_names: Sequence[str], *, has_labels: bool) -> str:
    """Returns the first row."""
    single = len(output_names) == 1
    names = ["output"] if single else [f"output_{name}" for name in output_names]
    return ",".join(["step", "t", *names, *["label"] * has_labels])


def _cell(text: str) -> str:
    """Returns a text as a cell of CSV: in quotes where it has a mark in it."""
    cell = io.StringIO()
    # Of two, since a row of one empty cell is written in quotes.
    csv.writer(cell, lineterminator="").writerow([text, ""])
    return cell.getvalue()[:-1]


@contextlib.contextmanager
def create(
    path: pathlib.Path | None, output_names: Sequence[str], *, has_labels: bool
) -> Iterator[OutputRows]:
    """Opens a new file of rows; None for standard output.

    A file that got no row because of an error is removed again.

    Raises:
      RowsError: the file exists.
    """
    if path is None:
        yield OutputRows(sys.stdout, output_names, has_labels=has_labels)
        return
    try:
        file = path.open("x", encoding="utf-8", newline="")
    except FileExistsError as error:
        raise RowsError(
            f"{path}: exists; continue it with --resume, or name another file."
        ) from error
    with file:
        rows = OutputRows(file, output_names, has_labels=has_labels)
        try:
            yield rows
        except BaseException:
            if rows.next_step == 0:
                path.unlink()
            raise


def count(path: pathlib.Path) -> int:
    """Returns how many whole rows a file has below its header; 0 if there is none."""
    try:
        with path.open("rb") as file:
            return max(0, sum(line.endswith(b"\n") for line in file) - 1)
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def resume(
    path: pathlib.Path, output_names: Sequence[str], *, has_labels: bool
) -> Iterator[OutputRows]:
    """Opens a file of rows to go on after the last whole one; a torn one is cut off.

    A file that does not exist, or was torn in its header, is begun.

    Raises:
      RowsError: the file holds something else.
    """
    first, width = header(output_names, has_labels=has_labels), len(output_names)
    outputs = array.array("f")
    row_count, whole_bytes = 0, 0
    with path.open("a+b") as binary:
        binary.seek(0)
        for raw in binary:
            if not raw.endswith(b"\n"):
                break
            line = raw.decode(errors="replace").rstrip("\r\n")
            if row_count:
                outputs.extend(_outputs(path, row_count - 1, line, width))
            elif line != first:
                raise RowsError(f"{path}: row 1: got {line!r}, expected {first!r}.")
            row_count, whole_bytes = row_count + 1, whole_bytes + len(raw)
        binary.truncate(whole_bytes)
    with path.open("a", encoding="utf-8", newline="") as file:
        known = np.array(outputs, np.float32).reshape(-1, width) if row_count else None
        yield OutputRows(file, output_names, has_labels=has_labels, outputs=known)


def _outputs(path: os.PathLike[str], step: int, line: str, count: int) -> list[float]:
    """Returns the outputs in one row."""
    cells = line.split(",")
    try:
        if int(cells[0]) != step:
            raise ValueError(f"the step is {cells[0]}")
        outputs = [float(cell) for cell in cells[2 : 2 + count]]
    except ValueError as error:
        raise RowsError(
            f"{path}: row {step + 2}: got {line!r}, expected the outputs of step {step}."
        ) from error
    if len(outputs) != count:
        raise RowsError(f"{path}: row {step + 2}: got {len(outputs)} outputs, expected {count}.")
    return outputs
